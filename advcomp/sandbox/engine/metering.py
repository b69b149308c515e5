"""What a container used, as its engine's control group or our own watchdog tells."""

import contextlib

from advcomp.sandbox.base import Limits
from advcomp.sandbox.limits import cgroups
from advcomp.sandbox.limits.cgroups import QueueWatch, Usage, Weak
from advcomp.sandbox.limits.sockets import cap_sockets
from advcomp.sandbox.limits.tiers import freezer_of, meter_of

__all__ = ["KernelsCount", "Watchdog"]

UNKNOWN = Usage(peak_bytes=None, oom_kills=0)


class KernelsCount:
    """What the kernel counted for the control group that an engine made; gone with it.

    What sockets queue is capped in that group, where cgroup v1 has to be told and lets us.

    Args:
        limits: What the container may use.
        pid: Its first process, on the host, before its program runs.
        container: Its ID, which the group's name has; a group without it is another's.

    Attributes:
        usage: What was counted when it was read last.
        is_read: Whether it was ever read.
    """

    def __init__(self, limits: Limits, pid: int, container: str) -> None:
        meter = meter_of(pid)
        self._meter = meter if meter and container in str(meter.oom_counter) else None
        counted = self._meter is not None and (
            self._meter.is_v2 or cap_sockets(self._meter.peak.parent, limits.memory_bytes)
        )
        self._watch = QueueWatch(pid, limits, sockets_counted=counted)
        freezer = freezer_of(pid)
        self._freezer = freezer if freezer and container in str(freezer.folder) else None
        self.usage = UNKNOWN
        self.is_read = False

    def read(self) -> None:
        """Take what is counted now, if the group still exists, and drop what it brought along."""
        if self._meter is not None:
            with contextlib.suppress(OSError):
                self.usage = self._meter.usage()
                self.is_read = True
        self._forget()
        self.usage = self._watch.added_to(self.usage)

    def end(self) -> bool:
        """Kill all that is in the group, once nothing moves and what it brought along is dropped.

        Returns:
            Whether that could be done.
        """
        return self._freezer is not None and self._freezer.end(self._forget)

    def _forget(self) -> None:
        if self._meter is not None:
            cgroups.forget(self._meter.oom_counter.parent)

    def excess(self, tmpfs_bytes: int) -> str | None:
        """Why the container must be killed now, or None."""
        return self._watch.excess()


class Watchdog:
    """What we see ourselves, where an engine keeps no limits.

    Args:
        limits: What the container may use.
        pid: Its first process, on the host.
    """

    is_read = True

    def __init__(self, limits: Limits, pid: int) -> None:
        self._group = Weak().open(limits)
        self._group.add(pid)

    @property
    def usage(self) -> Usage:
        """What was seen up to now."""
        return self._group.usage()

    def read(self) -> None:
        """Nothing: it has been looked at all the time."""

    def end(self) -> bool:
        """False: there is no group to kill."""
        return False

    def excess(self, tmpfs_bytes: int) -> str | None:
        """Why the container must be killed now, or None."""
        return self._group.excess(tmpfs_bytes)
