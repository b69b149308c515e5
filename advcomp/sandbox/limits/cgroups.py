"""Limits on a whole box: memory, processes and CPU, in three tiers, best first.

Theory of operation. A box's first process is put into a group of its own before it touches
anything; all that descends from it is in the group and cannot leave. The kernel counts memory of
every kind (heap, tmpfs, page cache), gives no swap, and counts whom it killed: a verdict needs
that number, since no exit code proves a death for memory.

* cgroup v2: below our own group when it is ours alone and may be divided; otherwise systemd is
  asked to move this process into a scope of its own with delegation, which then is that group.
* cgroup v1: root makes a group by hand in the memory, pids and cpu hierarchies.
* weak: no group. Resource limits hold the number of processes; a watchdog adds up the memory of
  the box's processes and tmpfs several times a second and asks for its death. Bursts between two
  looks escape it, and nothing holds the CPU share. Results say `limits: weak`.

A group's name carries the pid namespace, the pid and the start time of its harness. Whoever
starts later removes the groups of the dead and leaves those of the living alone.
"""

import contextlib
import os
import re
import resource
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from advcomp.errors import SandboxError
from advcomp.sandbox.base import Limits, LimitTier
from advcomp.sandbox.limits.sockets import SocketQueues, cap_sockets, most_queued_bytes

__all__ = [
    "CONTROLLERS",
    "CgroupV1",
    "CgroupV2",
    "Group",
    "Keeper",
    "Meter",
    "QueueWatch",
    "Usage",
    "Weak",
    "clear",
    "forget",
    "is_dead",
    "is_own",
    "new_name",
    "owner_tag",
    "remove_stale_groups",
    "stale",
]

CONTROLLERS = ("memory", "pids", "cpu")
OVERHEAD_PIDS = 1  # the launcher
CPU_PERIOD_US = 100_000
OWNER = re.compile(r"(?P<pid_namespace>\d+)-(?P<pid>\d+)-(?P<start>\d+)")
NAME = re.compile(rf"advcomp-(?P<owner>{OWNER.pattern})-[0-9a-f]{{16}}")
REMOVAL_S = 5.0
EVERYTHING = str(1 << 50)
"""More bytes than a group can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a box used.

    Args:
        peak_bytes: Most memory at once; None where nobody counted it.
        oom_kills: Processes killed for memory.
        cpu_s: Seconds of processors, of all its processes; None where nobody counted them.
    """

    peak_bytes: int | None
    oom_kills: int
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Where the kernel tells what a group used."""

    peak: Path
    oom_counter: Path
    cpu: Path | None = None

    @classmethod
    def of_v1(cls, memory: Path, cpu: Path | None = None) -> Self:
        """That of folders in the memory and, where there is one, cpuacct hierarchies of v1."""
        return cls(
            peak=memory / "memory.max_usage_in_bytes",
            oom_counter=memory / "memory.oom_control",
            cpu=None if cpu is None else cpu / "cpuacct.usage",
        )

    @classmethod
    def of_v2(cls, folder: Path) -> Self:
        """That of a folder of cgroup v2."""
        return cls(
            peak=folder / "memory.peak",
            oom_counter=folder / "memory.events",
            cpu=folder / "cpu.stat",
        )

    @property
    def is_v2(self) -> bool:
        """Whether this is a group of cgroup v2."""
        return self.oom_counter.name == "memory.events"

    def usage(self) -> Usage:
        """What was used up to now.

        Raises:
            OSError: The group is gone.
        """
        counters = dict(line.split() for line in self.oom_counter.read_text().splitlines())
        # memory.peak is younger (Linux 5.19) than cgroup v2.
        peak = int(self.peak.read_text()) if self.peak.exists() else None
        return Usage(
            peak_bytes=peak, oom_kills=int(counters.get("oom_kill", 0)), cpu_s=self._cpu_s()
        )

    def _cpu_s(self) -> float | None:
        """v1 tells nanoseconds alone, v2 microseconds among other things."""
        if self.cpu is None or not self.cpu.exists():
            return None
        words = self.cpu.read_text().split()
        if words[0].isdigit():
            return int(words[0]) / 1e9
        counters = dict(zip(words[::2], words[1::2], strict=True))
        return int(counters["usage_usec"]) / 1e6


class Group(Protocol):
    """The limits of one box."""

    @property
    def rlimits(self) -> Sequence[tuple[int, int]]:
        """Resource limits that the program itself has to start with."""
        ...

    def add(self, pid: int) -> None:
        """Put the first process of the box under the limits; it has no sockets yet."""
        ...

    def excess(self, tmpfs_bytes: int) -> str | None:
        """Why the box must die now; None if it need not.

        Args:
            tmpfs_bytes: What its files in memory take, where the kernel does not count them.
        """
        ...

    def usage(self) -> Usage:
        """What it used."""
        ...

    def close(self) -> None:
        """Remove what was made; the box is dead."""
        ...


class Keeper(Protocol):
    """One tier; makes the groups."""

    @property
    def tier(self) -> LimitTier: ...  # noqa: D102

    def open(self, limits: Limits) -> Group:
        """A group for one box."""
        ...


class CgroupV2:
    """Groups below `parent`, a cgroup v2 folder that may be divided."""

    tier = LimitTier.CGROUP_V2

    def __init__(self, parent: Path) -> None:
        self._parent = parent

    def open(self, limits: Limits) -> Group:
        """A group for one box."""
        folder = _make(self._parent, new_name())
        _set(folder / "memory.max", limits.memory_bytes)
        _set_if_present(folder / "memory.swap.max", 0)
        _set(folder / "pids.max", limits.pids + OVERHEAD_PIDS)
        _set(folder / "cpu.max", f"{int(limits.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}")
        return _KernelGroup((folder,), Meter.of_v2(folder), limits, sockets_counted=True)


class CgroupV1:
    """Groups below a folder for each of the memory, pids and cpu hierarchies.

    Where `cpuacct` is there, which counts processor time, it may be the same as `cpu`.
    """

    tier = LimitTier.CGROUP_V1

    def __init__(
        self, *, memory: Path, pids: Path, cpu: Path, cpuacct: Path | None = None
    ) -> None:
        self._memory, self._pids, self._cpu = memory, pids, cpu
        self._is_joint = cpuacct is not None and cpuacct.samefile(cpu)
        self._cpuacct = None if self._is_joint else cpuacct

    def open(self, limits: Limits) -> Group:
        """A group for one box."""
        name = new_name()
        memory, pids, cpu = (_make(p, name) for p in (self._memory, self._pids, self._cpu))
        _set(memory / "memory.limit_in_bytes", limits.memory_bytes)
        _set_if_present(memory / "memory.memsw.limit_in_bytes", limits.memory_bytes)
        _set_if_present(memory / "memory.swappiness", 0)
        capped = cap_sockets(memory, limits.memory_bytes)
        _set(pids / "pids.max", limits.pids + OVERHEAD_PIDS)
        _set(cpu / "cpu.cfs_period_us", CPU_PERIOD_US)
        _set(cpu / "cpu.cfs_quota_us", int(limits.cpus * CPU_PERIOD_US))
        folders = [memory, pids, cpu]
        counting = cpu if self._is_joint else None
        if self._cpuacct is not None:
            counting = _make(self._cpuacct, name)
            folders.append(counting)
        meter = Meter.of_v1(memory, counting)
        return _KernelGroup(folders, meter, limits, sockets_counted=capped)


class Weak:
    """No groups: resource limits and a watchdog."""

    tier = LimitTier.WEAK

    def open(self, limits: Limits) -> Group:
        """A group for one box."""
        return _WatchedGroup(limits)


class QueueWatch:
    """Kills a box, whose memory the kernel counts, for what it queues in sockets uncounted.

    Args:
        pid: The box's first process.
        limits: Its limits.
        sockets_counted: Whether the kernel counts what TCP and UDP queue.
    """

    def __init__(self, pid: int, limits: Limits, *, sockets_counted: bool) -> None:
        self._queues = SocketQueues(pid, ip_is_counted=sockets_counted)
        self._most_bytes = most_queued_bytes(limits.memory_bytes)
        self._kills = 0

    def excess(self) -> str | None:
        """Why the box must die now; None if it need not."""
        queued = self._queues.bytes()
        if queued <= self._most_bytes:
            return None
        self._kills = 1
        return f"killed by the watchdog: {queued} bytes of memory in sockets"

    def added_to(self, usage: Usage) -> Usage:
        """What the kernel counted, and this death for memory if it came to that."""
        return replace(usage, oom_kills=usage.oom_kills + self._kills)


class _KernelGroup:
    """A group that the kernel keeps within its limits."""

    rlimits: Sequence[tuple[int, int]] = ()

    def __init__(
        self, folders: Sequence[Path], meter: Meter, limits: Limits, *, sockets_counted: bool
    ) -> None:
        self._folders = folders
        self._meter = meter
        self._limits = limits
        self._sockets_counted = sockets_counted
        self._watch: QueueWatch | None = None

    def add(self, pid: int) -> None:
        for folder in self._folders:
            _set(folder / "cgroup.procs", pid)
        self._watch = QueueWatch(pid, self._limits, sockets_counted=self._sockets_counted)

    def excess(self, tmpfs_bytes: int) -> str | None:
        return None if self._watch is None else self._watch.excess()

    def usage(self) -> Usage:
        usage = self._meter.usage()
        return usage if self._watch is None else self._watch.added_to(usage)

    def close(self) -> None:
        for folder in self._folders:
            forget(folder)
            _remove(folder)


class _WatchedGroup:
    """Limits that we keep ourselves, as well as can be."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._first: int | None = None
        self._queues: SocketQueues | None = None
        self._peak_bytes = 0
        self._oom_kills = 0

    @property
    def rlimits(self) -> Sequence[tuple[int, int]]:
        # Counted per uid; root gives every box its own, and runs the launcher itself.
        if os.geteuid() == 0:
            return ((resource.RLIMIT_NPROC, self._limits.pids),)
        # Since Linux 5.14 counted per user namespace, the launcher included; before, it would
        # count all that the user runs, and stop innocent programs.
        if _linux_version() < (5, 14):
            return ()
        return ((resource.RLIMIT_NPROC, self._limits.pids + OVERHEAD_PIDS),)

    def add(self, pid: int) -> None:
        self._first = pid
        self._queues = SocketQueues(pid, ip_is_counted=False)

    def excess(self, tmpfs_bytes: int) -> str | None:
        if self._first is None or self._queues is None:
            return None
        uncounted = tmpfs_bytes + self._queues.bytes()
        pids = list(_descendants(self._first))
        used = uncounted + sum(_private_bytes(pid) for pid in pids)
        if used > self._limits.memory_bytes:
            # Memory shared between forks was counted once for each: count it properly.
            used = uncounted + sum(_proportional_bytes(pid) for pid in pids)
        self._peak_bytes = max(self._peak_bytes, used)
        if used > self._limits.memory_bytes:
            self._oom_kills += 1
            return f"killed by the watchdog: {used} bytes of memory in use"
        threads = sum(_threads(pid) for pid in pids)
        if threads > self._limits.pids + OVERHEAD_PIDS:
            return f"killed by the watchdog: {threads} processes and threads"
        return None

    def usage(self) -> Usage:
        return Usage(peak_bytes=self._peak_bytes or None, oom_kills=self._oom_kills)

    def close(self) -> None:
        self._first = None


def forget(folder: Path) -> None:
    """Drop what a dead box brought into the kernel's caches: pages of files, names, inodes.

    They are charged to its group, and would go on, charged to ours, where a later box could tell
    by the time that a look takes what this one had looked at: names, too, that do not exist.
    """
    for file, amount in (("memory.force_empty", "0"), ("memory.reclaim", EVERYTHING)):
        if (folder / file).exists():
            with contextlib.suppress(OSError):  # EAGAIN, EBUSY: what others use stays
                (folder / file).write_text(amount)


def remove_stale_groups(mount: Path) -> list[Path]:
    """Kill and remove our user's groups of dead harnesses below `mount`; which they were."""
    found = stale(mount)
    for folder in found:
        clear(folder)
    return found


def stale(mount: Path) -> list[Path]:
    """Our user's groups of dead harnesses below `mount`."""
    return [
        Path(folder, name)
        for folder, names, _ in os.walk(mount)
        for name in names
        if _is_stale(name) and os.access(Path(folder, name), os.W_OK)
    ]


def clear(folder: Path) -> None:
    """Kill what is in a group, and remove it."""
    for pid in _text(folder / "cgroup.procs").split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _remove(folder)


def owner_tag() -> str:
    """This process, told apart from every other of this boot: pid namespace, pid, start time."""
    return f"{_pid_namespace()}-{os.getpid()}-{_start_time(os.getpid())}"


def new_name() -> str:
    """A name for a group of this process, never used before."""
    return f"advcomp-{owner_tag()}-{secrets.token_hex(8)}"


def is_own(name: str) -> bool:
    """Whether a group's name says that this process made it."""
    return NAME.fullmatch(name) is not None and name.startswith(f"advcomp-{owner_tag()}-")


def is_dead(tag: str) -> bool:
    """Whether the process that an `owner_tag` of our pid namespace names is dead."""
    match = OWNER.fullmatch(tag)
    if match is None or int(match["pid_namespace"]) != _pid_namespace():
        return False
    return _start_time(int(match["pid"])) != int(match["start"])


def _is_stale(name: str) -> bool:
    """Whether `name` is that of a group whose harness, of our pid namespace, is dead."""
    match = NAME.fullmatch(name)
    return match is not None and is_dead(match["owner"])


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


def _make(parent: Path, name: str) -> Path:
    folder = parent / name
    try:
        folder.mkdir()
    except OSError as error:
        raise SandboxError(f"{folder}: cannot make a control group: {error.strerror}") from error
    return folder


def _set(file: Path, value: int | str) -> None:
    try:
        file.write_text(f"{value}\n")
    except OSError as error:
        raise SandboxError(f"{file}: cannot write {value}: {error.strerror}") from error


def _set_if_present(file: Path, value: int) -> None:
    """Swap limits exist only where the kernel accounts for swap."""
    if file.exists():
        _set(file, value)


def _remove(folder: Path) -> None:
    """Remove a group; the kernel may need a moment after its last process."""
    deadline = time.monotonic() + REMOVAL_S
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:
            if time.monotonic() > deadline:
                raise SandboxError(f"{folder}: cannot remove it: {error.strerror}") from error
        time.sleep(0.01)


def _descendants(pid: int) -> Iterator[int]:
    """`pid` and all that descend from it, as far as they live while we look."""
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        yield pid
        for task in _listing(Path(f"/proc/{pid}/task")):
            waiting += map(int, _text(task / "children").split())


def _private_bytes(pid: int) -> int:
    """Resident memory of a process but files and shared memory."""
    fields = _text(Path(f"/proc/{pid}/statm")).split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize() if fields else 0


def _proportional_bytes(pid: int) -> int:
    """Resident memory of a process but files and tmpfs, shared pages divided among its sharers."""
    found = re.search(r"^Pss_Anon:\s+(\d+) kB", _text(Path(f"/proc/{pid}/smaps_rollup")), re.M)
    return int(found[1]) * 1024 if found else 0


def _threads(pid: int) -> int:
    return len(_listing(Path(f"/proc/{pid}/task")))


def _text(file: Path) -> str:
    """Content of a file of the kernel's; empty if what it tells of is gone."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _listing(folder: Path) -> list[Path]:
    """Content of a folder of /proc; empty if its process is gone."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _linux_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])  # type: ignore[index]
