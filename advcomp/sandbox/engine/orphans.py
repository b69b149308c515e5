"""What dead harnesses left with an engine: found by its labels, and removed.

A harness that is killed leaves no running container (its end of the streams closes), but may
leave one that was made and never started, one that has ended, or a volume. Those of living
harnesses, and of harnesses in another pid namespace, which we cannot look at, are left alone.
"""

import re
from contextlib import suppress

from advcomp.errors import SandboxError
from advcomp.sandbox.engine.client import Engine
from advcomp.sandbox.engine.ownership import OWNER
from advcomp.sandbox.limits.cgroups import is_dead

__all__ = ["orphans", "owned", "remove_orphans"]

REMOVAL_S = 20.0
"""How long what is left behind may take to go."""
LINE = re.compile(rf"^(\S+) .*{re.escape(OWNER)}[=:]([0-9-]+)", re.MULTILINE)
"""A name and its labels: `key=value,...` as Docker prints them, `map[key:value ...]` as Podman."""


def owned(engine: Engine, kind: str) -> dict[str, str]:
    """All containers (`container`) or volumes (`volume`) with an owner: name -> owner."""
    name = "{{.ID}}" if kind == "container" else "{{.Name}}"
    every = ["--all"] if kind == "container" else []
    listed = engine.call(
        *(kind, "ls", *every, "--filter", f"label={OWNER}", "--format", f"{name} {{{{.Labels}}}}")
    )
    return {found[1]: found[2] for found in LINE.finditer(listed)}


def orphans(engine: Engine, kind: str) -> list[str]:
    """Names of the containers (`container`) or volumes (`volume`) of dead harnesses."""
    return [name for name, owner in owned(engine, kind).items() if is_dead(owner)]


def remove_orphans(engine: Engine) -> list[str]:
    """Remove what dead harnesses left; what was removed.

    What the engine cannot remove is left to a later start: an engine that holds on to one dead
    container can make others.

    Raises:
        SandboxError: The engine does not say what there is.
    """
    containers, volumes = (orphans(engine, kind) for kind in ("container", "volume"))
    removed = []
    for words, names in (
        (("rm", "--force", "--volumes"), containers),
        (("volume", "rm", "--force"), volumes),
    ):
        for name in names:
            # One by one: Podman stops, without an error, at the first that is gone.
            with suppress(SandboxError):
                engine.call(*words, name, timeout_s=REMOVAL_S)
                removed.append(name)
    return removed
