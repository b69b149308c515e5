"""gVisor without an engine: boxes that show the host as bubblewrap's do, on a kernel of their own.

Theory of operation
-------------------
`runsc run` makes a box of a bundle: a folder with a configuration (`bundle.py`) that says the same
as an engine is told (`hardening.py`), and that shows what `shown.py` says. Its first process is
the one of every container (first/first.c), with the same order and over the same streams
(`attached.py`). What an engine would do besides is done here:

1. A shell waits for a line until it has been put into a group of limits (`cgroups.py`), with all
   that it will start. Only then does it become `unshare`, which makes a mount and a pid namespace.
2. In these, a tmpfs of the output's size is mounted in the bundle's folder, and `runsc` becomes
   the first process. So there is one process to kill, the kernel kills all others with it, and no
   mount is ever seen outside or left behind.
3. The output is held through that process's root (`held.py`) before the program starts, and read
   when all is dead.

gVisor is root's here: an ordinary user's would need an engine. If the harness dies, the box's
standard input ends, its first process exits, and all goes; the bundle's folder goes at the next
start.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from advcomp.errors import SandboxError
from advcomp.sandbox.base import LimitTier, RunSpec, SharedTree
from advcomp.sandbox.box.capture import Log
from advcomp.sandbox.box.entry_stream import bytes_in_tmpfs, entry_stream
from advcomp.sandbox.box.finished import (
    FinishedRun,
    finished,
    input_problems,
    no_room_for_the_entry,
    stream_of,
)
from advcomp.sandbox.box.held import EmptyFolder, HeldFolder
from advcomp.sandbox.box.identity import lease_uid
from advcomp.sandbox.box.process import Ending, setup_s
from advcomp.sandbox.box.running import Running
from advcomp.sandbox.box.shown import host_view, interpreter_versions
from advcomp.sandbox.engine.attached import Attached, Readiness, Watch, attach, new_mark
from advcomp.sandbox.engine.bundle import OUTPUT, STATE, bundle, clear_abandoned
from advcomp.sandbox.engine.client import runtime_version
from advcomp.sandbox.engine.hardening import CODE, GVISOR_PIDS, order_for
from advcomp.sandbox.limits.cgroups import Group, Keeper, Usage

__all__ = ["Gvisor"]

ENTER = """read -r line && exec unshare --mount --pid --fork --kill-child --mount-proc sh -c '
mount -t tmpfs -o "$1" output "$2" && shift 2 && exec "$@"' sh "$@\""""
"""Once told so, in namespaces of its own: mount the output, then become a command."""
FLAGS = ("--network=none", "--ignore-cgroups")
"""A box needs no network; its group of limits is ours."""


class Gvisor:
    """The backend `gvisor` where no engine is; see `Sandbox`.

    Args:
        program: Path of `runsc`.
        keeper: Who keeps the limits; the kernel must.
        hidden: Host folders that are covered where a box would show them.

    Raises:
        SandboxError: A hidden folder does not exist.
    """

    name = "gvisor"
    images = None

    def __init__(self, program: str, keeper: Keeper, *, hidden: Sequence[Path] = ()) -> None:
        self._program = program
        self._keeper = keeper
        self._view = host_view(hidden)
        self._running = Running(Attached.kill)
        self._versions = interpreter_versions() | {"gvisor": runtime_version(program)}
        clear_abandoned()

    @property
    def limit_tier(self) -> LimitTier:
        """How strictly limits are kept."""
        return self._keeper.tier

    @property
    def versions(self) -> Mapping[str, str]:
        """gVisor, the interpreter and its packages."""
        return dict(sorted(self._versions.items()))

    @property
    def shown(self) -> tuple[Path, ...]:
        """Host folders that every box can read, as real paths."""
        return self._view.shown

    def shared(self, images: Sequence[str]) -> AbstractContextManager[Sequence[SharedTree]]:
        """What every box reads of the host; there are no images."""
        return contextlib.nullcontext(self._view.shared)

    def run(self, spec: RunSpec) -> FinishedRun:
        """Run one program to its end; see `Sandbox.run`.

        Raises:
            SandboxError: The box failed, or `close` was called meanwhile.
        """
        output = () if spec.output is None else (spec.output,)
        problems = input_problems(spec, strangers=True)
        problems += self._view.conflicts((CODE, *output, *spec.inputs))
        if spec.limits.gpus:
            problems.append(f"gvisor: lends no GPUs, got gpus = {spec.limits.gpus}")
        if problems:
            raise SandboxError(*problems)
        code_bytes = bytes_in_tmpfs(spec.code)
        if code_bytes > spec.limits.memory_bytes:
            return no_room_for_the_entry(Usage(peak_bytes=None, oom_kills=1))
        try:
            return self._run(spec, setup_s(code_bytes, spec.limits.cpus))
        except OSError as error:
            raise SandboxError(f"the box failed: {error}") from error

    def close(self) -> None:
        """Kill what is running; every `run` in progress raises SandboxError."""
        self._running.close()

    def _run(self, spec: RunSpec, ready_s: float) -> FinishedRun:
        limits = replace(spec.limits, pids=spec.limits.pids + GVISOR_PIDS)
        with contextlib.ExitStack() as held:
            uid = held.enter_context(contextlib.closing(lease_uid())).uid
            folder = held.enter_context(bundle(self._view, spec, uid))
            group = held.enter_context(contextlib.closing(self._keeper.open(limits)))
            log, stdout, mark = Log(limits.log_bytes), stream_of(spec), new_mark()
            attached = attach(
                self._command(folder, limits.output_bytes, uid),
                mark=mark,
                ready_s=ready_s,
                log=log,
                stdout=stdout,
                held=held,
            )
            with self._running.registered(attached):
                group.add(attached.client)
                order = order_for(spec, mark, path=self._view.program_path, gvisor=True)
                became = attached.prepare(b"\n" + order, entry_stream(spec.code))
                if became is not Readiness.READY:
                    return _not_ready(became, attached, group)
                first = _only_child(attached.client)
                with contextlib.ExitStack() as undo:
                    output = (
                        EmptyFolder()
                        if spec.output is None
                        else HeldFolder.of_process(first, str(folder / OUTPUT))
                    )
                    undo.callback(output.close)
                    ending, disk_full = _drive(spec, attached, first, held)
                    usage = group.usage()
                    if not (ending.explained or usage.oom_kills):
                        raise attached.failure("somebody else killed it")
                    undo.pop_all()
            return finished(ending, usage, output, log, stdout, disk_full=disk_full)

    def _command(self, folder: Path, output_bytes: int, uid: int) -> list[str]:
        """What becomes the box of a bundle."""
        options = f"size={output_bytes},mode=0755,uid={uid},gid={uid},nosuid,nodev"
        return [
            *("sh", "-c", ENTER, "sh", options, str(folder / OUTPUT)),
            *(self._program, "--root", str(folder / STATE), *FLAGS),
            *("run", "--bundle", str(folder), folder.name),
        ]


def _not_ready(became: Readiness, attached: Attached, group: Group) -> FinishedRun:
    """The result of a box whose memory the entry filled.

    Raises:
        SandboxError: It is dead for another reason.
    """
    usage = group.usage()
    if became is Readiness.BEYOND_MEMORY or usage.oom_kills:
        return no_room_for_the_entry(replace(usage, oom_kills=1))
    raise attached.failure("it could not be started")


def _drive(
    spec: RunSpec, attached: Attached, first: int, held: contextlib.ExitStack
) -> tuple[Ending, bool]:
    """See a started box to its end: how, and whether its scratch was full."""
    ending = os.pidfd_open(first)
    held.callback(os.close, ending)
    # The group of limits is ours, and counts on when all is dead.
    watch = Watch(excess=None, measure=lambda: None, kill=attached.kill, first=ending)
    return attached.run(spec.limits.wall_s, watch)


def _only_child(pid: int) -> int:
    """The process that `unshare` waits for: the first of its pid namespace."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
