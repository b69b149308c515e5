"""What a box answers to every system call of x86-64, written out, and a program that asks."""

import errno

EVERY_CALL = range(601)
REFUSED_ON_X86_64 = {
    errno.EPERM: {
        *(101, 103, 134, 135, 136, 139, 153, 154, 155, 156, 159, 161, 163, 164, 165, 166, 167),
        *(168, 169, 172, 173, 174, 175, 176, 177, 178, 179, 180, 212, 227, 246, 248, 249, 250),
        *(272, 298, 300, 303, 304, 305, 308, 310, 311, 312, 313, 320, 321, 323),
        *(425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443),
    },
    errno.ENOSYS: {73, 206, 253, 294, 435, *range(467, 601)},
}
"""Error -> numbers of calls of which none is ever allowed, written out: whoever takes one from the
table takes it from here, too."""

CALL_EVERYTHING = """
    import ctypes, json, os, signal, sys
    libc = ctypes.CDLL(None, use_errno=True)
    skipped = {57, 58, 162}  # fork and vfork, which would answer twice; sync, which may take long
    def answer(number):
        done = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(2**64 - 1)] * 6)
        return ctypes.get_errno() if done == -1 else 0
    def answer_in_a_child(number):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            os.write(writing, b"%d" % answer(number))
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        said = os.read(reading, 16)
        os.close(reading)
        return int(said) if said else None
    every, newest = int(sys.argv[1]), int(sys.argv[2])
    numbers = [n for n in range(every) if n not in skipped]
    told = {n: answer_in_a_child(n) if n <= newest else answer(n) for n in numbers}
    x32 = [n | 0x40000000 for n in numbers]
    print(json.dumps({**told, **{n: answer(n) for n in x32}}))
"""
"""Prints every number's answer, an error or 0, to arguments that are all -1, to which the kernel
itself mostly has other answers; and each again as a call of x32. Its own arguments are how many
numbers, and the last one that may be a call, which is made in a child."""
