"""Containers that run nothing: through them the layers of an image are read where they lie.

How an engine keeps layers is its own matter. But a container of an image shows them, and whoever
may hold a container's output folder (`outputs.py`) may read the rest of it, too. A page that is
read through one container is the one that all others read: below their file systems lies the same
file. Under gVisor as well, whose boxes get their files from the host's kernel; so the still
container is made with the engine's ordinary runtime, whose processes the host sees.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from advcomp.errors import SandboxError
from advcomp.sandbox.base import Limits, RunSpec, SharedTree
from advcomp.sandbox.box.capture import Log
from advcomp.sandbox.box.entry_stream import entry_stream
from advcomp.sandbox.box.identity import UidLease
from advcomp.sandbox.box.process import setup_s
from advcomp.sandbox.engine.attached import Readiness, attach, new_mark
from advcomp.sandbox.engine.client import Engine
from advcomp.sandbox.engine.hardening import container_walls, order_for

__all__ = ["still"]

STILL = RunSpec(argv=("true",), limits=Limits(wall_s=1, memory_bytes=64 << 20, output_bytes=1))


@contextlib.contextmanager
def still(
    engine: Engine, image: str, user: UidLease, labels: Mapping[str, str]
) -> Iterator[SharedTree]:
    """An image's files, as long as the context is open.

    Raises:
        SandboxError: No container of it starts.
    """
    ordinary = engine.ordinary
    inspected = ordinary.image(image)
    options = container_walls(
        ordinary, inspected, STILL, user=user, code_bytes=0, labels=labels, gpus=()
    )
    container = ordinary.call("create", *options, inspected.id).strip()
    with contextlib.ExitStack() as held:
        held.callback(ordinary.call, "rm", "--force", "--volumes", container)
        mark = new_mark()
        attached = attach(
            ordinary.command("start", "--attach", "--interactive", container),
            mark=mark,
            ready_s=setup_s(0, STILL.limits.cpus),
            log=Log(STILL.limits.log_bytes),
            stdout=None,
            held=held,
        )
        order = order_for(STILL, mark, path=inspected.path, gvisor=False)
        if attached.prepare(order, entry_stream(None)) is not Readiness.READY:
            raise attached.failure("it could not be started to hold its image's files")
        (said,) = ordinary.inspect("container", container)
        yield _files_of(int(said["State"]["Pid"]))


def _files_of(pid: int) -> SharedTree:
    """What a process sees, but for what is mounted into its root.

    Raises:
        SandboxError: We may not look into it.
    """
    root = Path(f"/proc/{pid}/root")
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        next(root.iterdir(), None)
    except OSError as error:
        raise SandboxError(f"{root}: this container cannot be looked into: {error}") from error
    places = (_unescaped(line.split(" ")[4]) for line in lines)
    return SharedTree(path=root, without=frozenset(f"{root}{p}" for p in places if p != "/"))


def _unescaped(place: str) -> str:
    """A path of mountinfo, where spaces and the like are written as octal numbers (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place)
