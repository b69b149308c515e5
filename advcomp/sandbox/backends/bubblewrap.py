"""Boxes made by bubblewrap: Linux namespaces, a read-only view of the host, nothing else.

Theory of operation
-------------------
`bwrap` is started with an empty environment and all its arguments by descriptor, so that neither
/proc/1/environ nor /proc/1/cmdline tells anything. It makes new mount, pid, network, ipc, uts and
cgroup namespaces, filters system calls (`seccomp.py`), shows the host as `shown.py` says, mounts
size-capped tmpfs wherever a program may write, makes the rest read-only, and runs our launcher as
process 1 (`launcher.py` has the protocol). The order of events:

1. The kernel tells us the launcher's pid on the host; we hold it by a pidfd and put it into its
   group of limits (`cgroups.py`), before it has touched anything.
2. The launcher copies the entry from an open folder descriptor to /code: the entry has no other
   path inside. It says "ready".
3. We open the writable folders through /proc/PID/root and hold them (`held.py`). Then "go".
4. The launcher gives up all rights and starts the program. We drain its output, and kill process 1
   by its pidfd at the deadline (monotonic clock); the kernel then kills everything in the box,
   whatever it forked, however it detached itself.
5. When the pidfd says that process 1 is dead, all others are dead already: the kernel reports it
   last. Only then is the output read.

Root and ordinary users. A user namespace made by root maps its users to root outside, so root
makes none: the launcher switches to a uid that nobody uses, one per box. An ordinary user's box
has a user namespace with that user's uid and forbids further ones.

If the harness dies, by whatever signal, its end of the channel closes; the launcher sees that at
every moment from its first, and exits, and the kernel clears the box away. bwrap's own means,
`--die-with-parent`, is not used: it has a moment in which it leaves a half-made box behind for
ever, and it ties the box to the thread that started it. bwrap has a session of its own: Ctrl-C in
a terminal reaches the harness only.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from advcomp.errors import SandboxError, SandboxUnavailable
from advcomp.sandbox.base import Limits, LimitTier, RunSpec, SharedTree
from advcomp.sandbox.box import launcher
from advcomp.sandbox.box.bytecode import compile_package
from advcomp.sandbox.box.capture import Log, Stream
from advcomp.sandbox.box.entry_stream import PAGE_BYTES, bytes_in_tmpfs
from advcomp.sandbox.box.finished import (
    FinishedRun,
    finished,
    input_problems,
    no_room_for_the_entry,
    stream_of,
)
from advcomp.sandbox.box.held import EmptyFolder, HeldFolder
from advcomp.sandbox.box.identity import lease_uid
from advcomp.sandbox.box.launcher import BoxOrder
from advcomp.sandbox.box.process import Box, memory_file, setup_s, start_box
from advcomp.sandbox.box.running import Running
from advcomp.sandbox.box.shown import (
    ETC_FILES,
    HostView,
    environment,
    host_view,
    interpreter_versions,
)
from advcomp.sandbox.box.terminals import bound_terminals
from advcomp.sandbox.limits.cgroups import Group, Keeper
from advcomp.sandbox.limits.gpus import Gpu, Gpus, bubblewrap_arguments
from advcomp.sandbox.limits.inherited import inherited_limits
from advcomp.sandbox.limits.seccomp import filter_program

__all__ = ["Bubblewrap"]

INSIDE_UID = 1000
"""The uid that an ordinary user's box shows; outside it is the user's own."""
NAMESPACES = ("ipc", "pid", "net", "uts", "cgroup")
LAUNCHER_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
)
CODE = "/code"
SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - paths inside the box


class Bubblewrap:
    """The bubblewrap backend; see `Sandbox`.

    Args:
        keeper: Who keeps the limits.
        hidden: Host folders that are covered where a box would show them (labels in packages).

    Raises:
        SandboxUnavailable: bubblewrap or libseccomp is not installed.
        SandboxError: A hidden folder does not exist.
    """

    name = "bubblewrap"
    images = None

    def __init__(self, keeper: Keeper, *, hidden: Sequence[Path] = ()) -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxUnavailable("bubblewrap: the program `bwrap` is not installed")
        compile_package()
        self._program = program
        self._keeper = keeper
        self._filter = filter_program()
        self._view = host_view(hidden)
        self._running = Running(Box.kill)
        self._versions = interpreter_versions() | {"bubblewrap": bwrap_version(program)}

    @property
    def limit_tier(self) -> LimitTier:
        """How strictly limits are kept."""
        return self._keeper.tier

    @property
    def versions(self) -> Mapping[str, str]:
        """bubblewrap, the interpreter and its packages."""
        return dict(sorted(self._versions.items()))

    @property
    def shown(self) -> tuple[Path, ...]:
        """Host folders that every box can read, as real paths."""
        return self._view.shown

    def shared(self, images: Sequence[str]) -> AbstractContextManager[Sequence[SharedTree]]:
        """What every box reads of the host; there are no images."""
        return contextlib.nullcontext(self._view.shared)

    def run(self, spec: RunSpec) -> "FinishedRun":
        """Run one program to its end; see `Sandbox.run`.

        Raises:
            SandboxError: The box failed, or `close` was called meanwhile.
        """
        _check(spec, self._view)
        try:
            return self._run(spec)
        except OSError as error:
            raise SandboxError(f"the box failed: {error}") from error

    def close(self) -> None:
        """Kill what is running; every `run` in progress raises SandboxError."""
        self._running.close()

    def _run(self, spec: RunSpec) -> "FinishedRun":
        with contextlib.ExitStack() as held:
            gpus = held.enter_context(Gpus().lent(spec.limits.gpus))
            uid = held.enter_context(contextlib.closing(lease_uid())).uid if _is_root() else None
            group = held.enter_context(contextlib.closing(self._keeper.open(spec.limits)))
            log = Log(spec.limits.log_bytes)
            stdout = stream_of(spec)
            box, order = self._start(spec, gpus, uid, log, stdout, held)
            order["rlimits"] += group.rlimits
            with self._running.registered(box):
                group.add(box.pid)
                return self._drive(spec, box, order, group, log, stdout)

    def _start(
        self,
        spec: RunSpec,
        gpus: Sequence[Gpu],
        uid: int | None,
        log: Log,
        stdout: Stream | None,
        held: contextlib.ExitStack,
    ) -> tuple[Box, BoxOrder]:
        """Make the walls; the box, and the order for its launcher."""
        code_bytes = bytes_in_tmpfs(spec.code)
        code_fd = None if spec.code is None else _open_folder(spec.code, held)
        etc = {
            path: memory_file(text.format(uid=uid or INSIDE_UID).encode(), held)
            for path, text in ETC_FILES.items()
        }
        filter_fd = memory_file(self._filter, held)
        arguments = [
            *bubblewrap_walls(self._view, spec, uid, code_bytes, etc, gpus),
            *("--seccomp", str(filter_fd)),
        ]
        arguments_fd = memory_file(b"".join(os.fsencode(a) + b"\0" for a in arguments), held)
        box = start_box(
            lambda channel_fd: [
                *(self._program, "--args", str(arguments_fd)),
                *("--", sys.executable, "-I", "-S", "-B", launcher.__file__, str(channel_fd)),
            ],
            ready_s=setup_s(code_bytes, spec.limits.cpus),
            fds=(arguments_fd, filter_fd, *etc.values(), *([] if code_fd is None else [code_fd])),
            log=log,
            stdout=stdout,
            held=held,
        )
        order = BoxOrder(
            argv=list(spec.argv),
            env=environment(self._view.program_path, spec.limits),
            cwd="/tmp" if spec.code is None else "/code",  # noqa: S108 - inside the box
            code_fd=code_fd,
            owned=[path for path in _writable(spec) if path not in SCRATCH],
            uid=uid,
            rlimits=_rlimits(spec.limits, code_bytes),
        )
        return box, order

    def _drive(
        self,
        spec: RunSpec,
        box: Box,
        order: BoxOrder,
        group: Group,
        log: Log,
        stdout: Stream | None,
    ) -> "FinishedRun":
        """See a started box to its end."""
        try:
            box.prepare(order)
        except SandboxError:
            if group.usage().oom_kills == 0:
                raise
            return no_room_for_the_entry(group.usage())
        if (why := bound_terminals(box.pid)) is not None:
            raise SandboxError(f"the box failed: its terminals cannot be bounded ({why})")
        with contextlib.ExitStack() as freed, contextlib.ExitStack() as undo:
            scratch = [
                freed.enter_context(contextlib.closing(HeldFolder.of_process(box.pid, path)))
                for path in _writable(spec)
                if path != spec.output
            ]
            output = (
                EmptyFolder()
                if spec.output is None
                else HeldFolder.of_process(box.pid, spec.output)
            )
            undo.callback(output.close)

            def excess() -> str | None:
                return group.excess(sum(f.used_bytes() for f in (*scratch, output)))

            ending = box.run(spec.limits.wall_s, excess)
            usage = group.usage()
            if not (ending.explained or usage.oom_kills):
                raise SandboxError("the box was killed by somebody else, or by the host's kernel")
            undo.pop_all()
            disk_full = any(folder.is_full() for folder in scratch)
            return finished(ending, usage, output, log, stdout, disk_full=disk_full)


def bwrap_version(program: str) -> str:
    """Version of a bwrap program, e.g. "0.8.0"."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def bubblewrap_walls(
    view: HostView,
    spec: RunSpec,
    uid: int | None,
    code_bytes: int,
    etc: Mapping[str, int],
    gpus: Sequence[Gpu],
) -> list[str]:
    """bwrap's arguments for a box.

    Args:
        view: What it shows.
        spec: What runs in it.
        uid: Who runs in it, where root starts it; None: the user who starts it.
        code_bytes: Size of the entry.
        etc: Synthetic files: inside path -> descriptor of the content.
        gpus: What it is lent.
    """
    arguments = [f"--unshare-{name}" for name in NAMESPACES]
    arguments += ["--as-pid-1", "--new-session", "--hostname", "box"]
    if uid is None:
        arguments += ["--unshare-user", "--disable-userns"]
        arguments += ["--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID)]
    else:
        arguments += ["--cap-drop", "ALL"]
        arguments += [word for name in LAUNCHER_CAPABILITIES for word in ("--cap-add", name)]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    # Before what is shown: an interpreter in the host's /tmp is then mounted into this one.
    for inside in _writable(spec):
        size = spec.limits.output_bytes + (code_bytes if inside == CODE else 0)
        mode = "1777" if inside in SCRATCH else "0755"
        arguments += [*_parents(inside), "--perms", mode, "--size", str(size), "--tmpfs", inside]
    for inside, target in view.links.items():
        arguments += [*_parents(inside), "--symlink", target, inside]
    for inside, outside in {**view.trees, **spec.inputs}.items():
        arguments += [*_parents(inside), "--ro-bind", str(outside), inside]
    for inside in view.covered:
        arguments += ["--perms", "0555", "--size", str(PAGE_BYTES), "--tmpfs", inside]
        arguments += ["--remount-ro", inside]
    for inside, fd in etc.items():
        arguments += [*_parents(inside), "--perms", "0444", "--file", str(fd), inside]
    arguments += bubblewrap_arguments(gpus, [Path(path) for path in (*view.trees, *view.links)])
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]


def _parents(inside: str) -> list[str]:
    """Make the folders above a path, for everybody to pass."""
    above = [str(path) for path in Path(inside).parents][-2::-1]
    return [word for path in above for word in ("--perms", "0755", "--dir", path)]


def _writable(spec: RunSpec) -> tuple[str, ...]:
    """Where the program may write; each is a tmpfs of its own."""
    code = () if spec.code is None else (CODE,)
    output = () if spec.output is None else (spec.output,)
    return (*SCRATCH, *code, *output)


def _rlimits(limits: Limits, code_bytes: int) -> list[tuple[int, int]]:
    """Resource limits of every program, by number."""
    inherited = inherited_limits(limits, code_bytes, processors=os.cpu_count() or 1)
    return [(getattr(resource, f"RLIMIT_{name.upper()}"), n) for name, n in inherited.items()]


def _open_folder(folder: Path, held: contextlib.ExitStack) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    held.callback(os.close, fd)
    return fd


def _is_root() -> bool:
    return os.geteuid() == 0


def _check(spec: RunSpec, view: HostView) -> None:
    """Refuse what could only fail later, in ways that look like the program's fault.

    Raises:
        SandboxError: All that is wrong.
    """
    output = () if spec.output is None else (spec.output,)
    problems = input_problems(spec, strangers=_is_root())
    problems += view.conflicts((CODE, *output, *spec.inputs))
    if problems:
        raise SandboxError(*problems)
