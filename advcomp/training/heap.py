"""Memory that a program of PyTorch gives back, only to ask for it again a moment later.

glibc hands large blocks back to the kernel as soon as they are free, and the kernel clears every
page of them when they are asked for again: a third of the processor time of an attack on a small
network. Ref.: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_NEVER_TRIM = 0x7FFF_FFFF


def keep_freed_memory() -> None:
    """Let this process keep what it frees, blocks of more than 32 MiB apart.

    It is for programs: it holds for the whole process. Where malloc is not glibc's, nothing
    happens. What a process has at most does not grow.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
