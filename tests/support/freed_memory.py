"""Text for a process of its own that frees large blocks and asks for them again."""

import os

CHURN = """
import ctypes, resource

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def churn():
    blocks = [libc.malloc(16 << 20) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 16 << 20)
    for block in blocks:
        libc.free(block)

def pages_of_churning():
    churn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        churn()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
"""Defines `pages_of_churning`: those that the kernel has to clear in fifty rounds."""

PAGES_OF_A_ROUND = 4 * (16 << 20) // os.sysconf("SC_PAGE_SIZE")
