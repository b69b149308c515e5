"""Memory of the kernel that is queued in the sockets of a box, and what keeps it small.

Data that was sent to a socket and not read lies in the kernel, 4 MiB and more for each socket.
Who counts it differs:

* cgroup v2 counts what TCP and UDP queue as the box's memory.
* cgroup v1 does so on demand only, apart from all other memory (`memory.kmem.tcp`): a cap of its
  own is set, before the box has any socket.
* Nobody counts netlink; nor TCP and UDP where that cap cannot be set (the group is another's). The
  kernel tells what is queued in a network namespace in /proc/PID/net. It is looked at several
  times a second, and a box with too much of it is killed for memory.
* Unix sockets and pipes are counted like all memory of the kernel.

Other protocols than TCP and UDP are refused (seccomp.py).
"""

import contextlib
from pathlib import Path

__all__ = ["SocketQueues", "cap_sockets", "most_queued_bytes"]

MOST_BYTES = 64 << 20
SHARE = 8
"""A small box may queue this part of its memory."""
CAP = "memory.kmem.tcp.limit_in_bytes"
OVERHEAD = 2
"""What a queued byte of netlink takes, at most; of others the kernel tells what they take."""


def most_queued_bytes(memory_bytes: int) -> int:
    """How much a box may have queued in sockets, beside a memory limit that does not count it."""
    return min(MOST_BYTES, memory_bytes // SHARE)


def cap_sockets(group: Path, memory_bytes: int) -> bool:
    """Have cgroup v1 cap what sockets queue; whether it does.

    Args:
        group: A folder of the memory hierarchy; its processes have no sockets yet.
        memory_bytes: The memory limit of the box.
    """
    if not (group / CAP).exists():
        return False
    with contextlib.suppress(OSError):
        (group / CAP).write_text(f"{most_queued_bytes(memory_bytes)}\n")
        return True
    return False


class SocketQueues:
    """What is queued in the sockets of a box with a network namespace of its own.

    Args:
        pid: Its first process.
        ip_is_counted: Whether the kernel itself counts what TCP and UDP queue.
    """

    def __init__(self, pid: int, *, ip_is_counted: bool) -> None:
        self._net = Path(f"/proc/{pid}/net")
        ours = _is_ours(self._net)
        self._ip = () if ip_is_counted or ours else ("tcp", "tcp6", "udp", "udp6")
        self._netlink = () if ours else ("netlink",)

    def bytes(self) -> int:
        """How many; 0 where the box is gone, or shares its network with us."""
        ip = sum(_of_ip(line) for name in self._ip for line in _lines(self._net / name))
        netlink = sum(
            _of_netlink(line) for name in self._netlink for line in _lines(self._net / name)
        )
        return ip + OVERHEAD * netlink


def _is_ours(net: Path) -> bool:
    """Whether this process is in the same network namespace; so, too, where that is not seen.

    The kernel gives every namespace files of its own.
    """
    try:
        return (net / "netlink").samefile("/proc/self/net/netlink")
    except OSError:
        return True


def _lines(file: Path) -> list[list[str]]:
    """The words of every line but the heading."""
    try:
        return [line.split() for line in file.read_text().splitlines()[1:]]
    except OSError:
        return []


def _of_ip(line: list[str]) -> int:
    """tx_queue and rx_queue of a line of tcp or udp (proc(5))."""
    sent, received = line[4].split(":")
    return int(sent, 16) + int(received, 16)


def _of_netlink(line: list[str]) -> int:
    """Rmem and Wmem of a line of netlink."""
    return int(line[4]) + int(line[5])
