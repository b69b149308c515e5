"""Whether containers can be made of an image at all.

An image may stand in its own way: a file where a folder must be mounted, or a link where the
output must lie. Engines say so when a container is made or started, which in a run would look like
a failure of ours. So each image is tried once when an entry comes with it, with the contract's
folders and a program that need not exist; an image of which no container starts is REJECTED.
"""

from pathlib import Path

from advcomp.errors import SandboxError
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.tournament.job.work import INPUT

__all__ = ["starts"]

TRIES = 2
LIMITS = Limits(wall_s=30, memory_bytes=512 << 20, output_bytes=1 << 20)


def starts(sandbox: Sandbox, image: str, output: str, scratch: Path) -> bool:
    """Whether a container of it starts; False as well where the engine has gone.

    Args:
        sandbox: Where it is tried.
        image: Its ID.
        output: The output folder of the contract.
        scratch: Where an empty folder may be made, which whoever calls takes away.
    """
    empty = scratch / "trial"
    empty.mkdir(exist_ok=True)
    empty.chmod(0o755)
    spec = RunSpec(
        argv=("true",),
        limits=LIMITS,
        code=empty,
        inputs={INPUT: empty},
        output=output,
        image=image,
    )
    return any(_runs(sandbox, spec) for _ in range(TRIES))


def _runs(sandbox: Sandbox, spec: RunSpec) -> bool:
    try:
        with sandbox.run(spec):
            return True
    except SandboxError:
        return False
