"""Ends all processes of a group while none of them can move.

What a box brought into the kernel's caches goes with its group (`cgroups.forget`), but for what a
program brings in again between that and its death. A frozen group's programs run no instruction
more: the kernel forgets, then each is sent SIGKILL, and thaws to its death.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Freezer"]

FREEZE_S = 2.0
"""How long a group may take; a process that waits for a device takes as long as that does."""
LOOK_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezer:
    """What freezes a group.

    Args:
        folder: The group's, of cgroup v2 or of v1's freezer.
        switch, state: Files in it: what is told, and what tells whether all stand still.
        still, moving: What the switch is told.
        is_still: What the state says when they do.
    """

    folder: Path
    switch: str
    state: str
    still: str
    moving: str
    is_still: str

    @classmethod
    def of_v1(cls, folder: Path) -> "Freezer":
        """That of a folder of v1's freezer."""
        return cls(
            folder=folder,
            switch="freezer.state",
            state="freezer.state",
            still="FROZEN",
            moving="THAWED",
            is_still="FROZEN",
        )

    @classmethod
    def of_v2(cls, folder: Path) -> "Freezer":
        """That of a group of cgroup v2."""
        return cls(
            folder=folder,
            switch="cgroup.freeze",
            state="cgroup.events",
            still="1",
            moving="0",
            is_still="frozen 1",
        )

    def end(self, meanwhile: Callable[[], None]) -> bool:
        """Kill all of the group, after what is done while it stands still.

        Returns:
            Whether that was so; where it was not, nothing is killed.
        """
        try:
            (self.folder / self.switch).write_text(self.still)
        except OSError:  # no such group, or not ours to freeze
            return False
        try:
            if not self._stands_still():
                return False
            meanwhile()
            for pid in (self.folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            return True
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                (self.folder / self.switch).write_text(self.moving)

    def _stands_still(self) -> bool:
        deadline = time.monotonic() + FREEZE_S
        while self.is_still not in (self.folder / self.state).read_text():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        return True
