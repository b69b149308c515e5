"""What dead harnesses left with an engine: found by its labels, and removed.

A harness that is killed leaves no running container (its end of the streams closes), but may
leave one that was made and never started, one that has ended, or a volume. Those of living
harnesses, and of harnesses in another pid namespace, which we cannot look at, are left alone.
"""

from advcomp.sandbox.cgroups import is_dead
from advcomp.sandbox.engine import Engine
from advcomp.sandbox.labels import OWNER

__all__ = ["orphans", "reap"]


def orphans(engine: Engine, kind: str) -> list[str]:
    """Names of the containers (`container`) or volumes (`volume`) of dead harnesses."""
    name = "{{.ID}}" if kind == "container" else "{{.Name}}"
    every = ["--all"] if kind == "container" else []
    listed = engine.call(
        *(kind, "ls", *every, "--filter", f"label={OWNER}"),
        *("--format", f'{name} {{{{.Label "{OWNER}"}}}}'),
    )
    pairs = (line.split(" ", 1) for line in listed.splitlines())
    return [found for found, owner in pairs if is_dead(owner.strip())]


def reap(engine: Engine) -> list[str]:
    """Remove what dead harnesses left; what it was.

    Raises:
        SandboxError: The engine does not.
    """
    containers, volumes = (orphans(engine, kind) for kind in ("container", "volume"))
    if containers:
        engine.call("rm", "--force", "--volumes", *containers)
    if volumes:
        engine.call("volume", "rm", "--force", *volumes)
    return containers + volumes
