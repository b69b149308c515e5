"""Resource limits that every process of a box inherits (getrlimit(2)), whatever makes the box.

Some keep a program within its box, others keep what the whole machine shares: open files come out
of one table (fs.file-max), and so a process gets as many as let all boxes that fit side by side,
each with all its processes, hold a third of it.
"""

import resource
from collections.abc import Mapping
from pathlib import Path

from advcomp.sandbox.base import Limits

__all__ = ["inherited_limits", "most_open_files"]

FILE_TABLE = Path("/proc/sys/fs/file-max")
FILE_TABLE_SHARE = 3
OPEN_FILES = 1024
"""What Linux gives to programs by default."""
LEAST_OPEN_FILES = 64
PENDING_SIGNALS = 4096
"""Of all processes together, timers among them."""
MESSAGE_QUEUE_BYTES = 819_200
"""The kernel's own default, whatever the host says."""


def inherited_limits(limits: Limits, code_bytes: int, *, processors: int) -> Mapping[str, int]:
    """Soft and hard limit of every process, by the name that engines give it.

    A core limit of one byte and not of zero: where the host pipes core dumps into a program of
    its own, zero does not stop it, one does (core(5), fs/coredump.c). The file size is bounded
    above all that fits anywhere, so that a full folder is what a program meets first.

    Args:
        limits: Of the box.
        code_bytes: Size of the entry.
        processors: The machine's.
    """
    largest_file = max(limits.output_bytes + code_bytes, limits.memory_bytes)
    wanted = {
        "core": 1,
        "fsize": largest_file,
        "nofile": most_open_files(limits, processors, int(FILE_TABLE.read_text())),
        "sigpending": PENDING_SIGNALS,
        "msgqueue": MESSAGE_QUEUE_BYTES,
        "nice": 0,
        "rtprio": 0,
    }
    return {name: _attainable(name, value) for name, value in wanted.items()}


def most_open_files(limits: Limits, processors: int, table: int) -> int:
    """How many files a process may have open.

    Args:
        limits: Of its box.
        processors: The machine's, which say how many boxes run side by side.
        table: How many files the whole machine may have open.
    """
    boxes = max(1, int(processors / limits.cpus))
    share = table // FILE_TABLE_SHARE // boxes // limits.pids
    return max(LEAST_OPEN_FILES, min(OPEN_FILES, share))


def _attainable(name: str, value: int) -> int:
    """A limit that this process can give: its own hard one is the most."""
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
