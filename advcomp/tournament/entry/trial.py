"""Whether containers can be made of an image at all.

An image may stand in its own way: a file where a folder must be mounted, a link where the output
must lie, or something that an engine opens and waits for. Engines say so when a container is made
or started, or say nothing at all, which in a run would look like a failure of ours. So each image
is tried once when an entry comes with it, with the contract's folders and a program that need not
exist. Where no container of it starts, one of an image without any file is tried: if that starts,
the image is to blame, and REJECTED; else the engine is.
"""

from dataclasses import replace
from pathlib import Path

from advcomp.errors import SandboxError, SandboxTimeout
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.tournament.job.work import INPUT

__all__ = ["starts"]

TRIES = 2
LIMITS = Limits(wall_s=30, memory_bytes=512 << 20, output_bytes=1 << 20)


def starts(sandbox: Sandbox, image: str, empty_image: str, output: str, scratch: Path) -> bool:
    """Whether a container of an image starts.

    Args:
        sandbox: Where it is tried.
        image: Its ID.
        empty_image: The ID of an image without any file.
        output: The output folder of the contract.
        scratch: Where an empty folder may be made, which whoever calls takes away.

    Raises:
        SandboxError: The engine starts no container at all.
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
    for _ in range(TRIES):
        try:
            _start(sandbox, spec)
        except SandboxError as error:
            _start(sandbox, replace(spec, image=empty_image))
            if isinstance(error, SandboxTimeout):  # which would take as long again
                return False
        else:
            return True
    return False


def _start(sandbox: Sandbox, spec: RunSpec) -> None:
    with sandbox.run(spec):
        pass
