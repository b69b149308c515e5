"""What works on this machine, and why the rest does not: for `advcomp doctor` and `run`."""

from collections.abc import Sequence
from pathlib import Path

from advcomp.sandbox.base import Sandbox
from advcomp.sandbox.bubblewrap import Bubblewrap
from advcomp.sandbox.tiers import best_keeper

__all__ = ["open_sandbox"]


def open_sandbox(name: str = "auto", *, hidden: Sequence[Path] = ()) -> Sandbox:
    """Make the sandbox `name` ready.

    Args:
        name: `auto` (which is bubblewrap) or a backend.
        hidden: Host folders that submissions must not see although they lie in what is shown.

    Raises:
        SandboxUnavailable: It does not work here: why, the remedy, and what does work.
    """
    return Bubblewrap(best_keeper(), hidden=hidden)
