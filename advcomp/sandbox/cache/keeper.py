"""Keeps the page cache of shared files in one state; a process of its own, without any rights.

Run by path (`steady.py`), on the interpreter that advcomp runs on, with the standard library only.
It is told once, by a line of JSON on standard input, which trees boxes share and how much memory
there is to keep of them; later, by a line `look`, to say whether the state has changed, or by
`restore`, to make it again, when no box runs. Each time it reads in again what it maps and lacks,
and answers with a line of JSON. When standard input ends (its harness closed it, or is dead,
however it died) it exits, and with it all that it holds; so it does when a part of it dies.

Theory of operation. A page of a file that boxes share is in memory or is not, and how long it
takes to read tells which: what one run reads, and so brings in, a later one can see. So

* as many files as there is room for are read and *mapped*, as a whole, and locked where this
  process may (`mlock`: root, or who has the limit). A mapped page is not dropped by
  POSIX_FADV_DONTNEED nor paged out by another process that maps it, a locked one not even where
  memory is short. A mapping holds the file's inode and its name in the kernel's tables, too.
* More are mapped and not locked, where there is room for them as long as boxes leave it.
* What is left is dropped from memory, when no box runs; if a box has read any of it.

Small files come first, of which there are many; then large ones, in the order of the trees: what
boxes read anyway should not be left, since each would wait for the disk again.

A process may have so many mappings (vm.max_map_count): more files are held by more processes.
"""

import ctypes
import errno
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TypedDict

PROT_READ, MAP_SHARED = 1, 1
MADV_POPULATE_READ = 22
MAP_FAILED = ctypes.c_void_p(-1).value
MAPPINGS_OF_PYTHON = 2000
PAGE = 4096
LARGE_BYTES = 1 << 20
WORTH_A_PROCESS = 10_000
"""So many files are mapped sooner by a process of their own, if there is a processor for it."""
LOOKED_INTO = 10_000
"""So many files that are left are looked into; more take as long as to drop them."""

HARNESS = os.getppid()
"""Who started this process."""

File = tuple[str, int]
"""Path and size."""


class Tree(TypedDict):
    """A folder or file, and paths in it that are not shared."""

    path: str
    without: list[str]


class CacheOrder(TypedDict):
    """What is to be kept.

    As many bytes as there is `room` are mapped, and of them as many locked as there is
    `room_to_lock`.
    """

    trees: list[Tree]
    room: int
    room_to_lock: int


class Kept(TypedDict):
    """What is kept.

    `held` bytes of `files` files are mapped, all of them `locked` or not; `left` bytes are not.
    """

    held: int
    files: int
    locked: bool
    left: int


class Looked(TypedDict):
    """Whether anything that is left has `changed` since it was dropped, or that is not known."""

    changed: bool


libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def main() -> None:
    """Carry out one order, then look and restore as often as asked."""
    order: CacheOrder = json.loads(sys.stdin.buffer.readline())
    gc.disable()  # there is no garbage among hundreds of thousands of names
    mapped, left = divided(shared_files(order["trees"]), order["room"])
    to_lock, to_hold = divided(mapped, order["room_to_lock"])
    unlimit_locking()
    signal.signal(signal.SIGCHLD, lambda *_: os._exit(1))
    holders = [Holder(part, locked=True) for part in parts(to_lock)]
    holders += [Holder(part, locked=False) for part in parts(to_hold)]
    answers = [holder.answer() for holder in holders]
    drop(left, written_back=True)
    restored = in_memory(left)  # what others than boxes map stays
    kept = Kept(
        held=sum(size for _, size in mapped),
        files=len(mapped),
        locked=all(answers),
        left=sum(size for _, size in left),
    )
    say(kept)
    while asked := sys.stdin.buffer.readline():
        for holder in holders:
            holder.ask()
        for holder in holders:
            holder.answer()
        if asked == b"look\n":
            say(Looked(changed=None in restored or in_memory(left) != restored))
            continue
        drop(left)
        restored = in_memory(left)
        say(kept)


def say(answer: Kept | Looked) -> None:
    """Answer with a line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def shared_files(trees: Sequence[Tree]) -> list[File]:
    """Every regular file with content, one name for each inode; what is best kept comes first."""
    found: dict[tuple[int, int], tuple[int, int, str]] = {}
    for place, tree in enumerate(trees, start=1):
        for path, status in walk(tree["path"], set(tree["without"])):
            if status.st_size:
                rank = place if status.st_size > LARGE_BYTES else 0
                found.setdefault((status.st_dev, status.st_ino), (rank, status.st_size, path))
    return [(path, size) for _, size, path in sorted(found.values())]


def walk(top: str, without: set[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below a folder, or a file itself; what we may not see, boxes may not."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except NotADirectoryError:
            yield folder, os.stat(folder)  # noqa: PTH116 - pathlib is slow to import
            continue
        except OSError:
            continue
        for entry in entries:
            if entry.path in without:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                try:
                    yield entry.path, entry.stat(follow_symlinks=False)
                except OSError:
                    continue


def divided(files: Sequence[File], room: int) -> tuple[list[File], list[File]]:
    """The first files that there is room for, and the rest."""
    used = 0
    for count, (_, size) in enumerate(files):
        used += -(-size // PAGE) * PAGE
        if used > room:
            return list(files[:count]), list(files[count:])
    return list(files), []


def parts(files: Sequence[File]) -> list[Sequence[File]]:
    """For each process its files: no more than it may map, large and small ones in each alike."""
    with open("/proc/sys/vm/max_map_count") as file:  # noqa: PTH123 - pathlib is slow to import
        most = int(file.read()) - MAPPINGS_OF_PYTHON
    useful = min(len(os.sched_getaffinity(0)), len(files) // WORTH_A_PROCESS)
    processes = max(-(-len(files) // most), useful)
    return [files[first::processes] for first in range(processes)]


class Holder:
    """A process that maps files until this one closes the pipe to it, or is dead.

    Args:
        files: Paths and sizes.
        locked: Whether to lock them.
    """

    def __init__(self, files: Sequence[File], *, locked: bool) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        if os.fork() == 0:
            # Only what it needs: the end of a pipe must be seen whoever else is alive.
            for fd in (0, 1, self._orders, self._answers):
                os.close(fd)
            try:
                hold(files, orders, answers, locked=locked)
            finally:
                os._exit(0)
        os.close(orders)
        os.close(answers)

    def ask(self) -> None:
        """Have it read in again what is not in memory."""
        os.write(self._orders, b"again")

    def answer(self) -> bool:
        """Whether all that it maps is locked.

        Raises:
            RuntimeError: It is dead.
        """
        answer = os.read(self._answers, 1)
        if not answer:
            raise RuntimeError("a process that held files is dead")
        return answer == b"1"


def hold(files: Sequence[File], orders: int, answers: int, *, locked: bool) -> None:
    """Map files, say whether they are locked, and read them again when asked."""
    mapped = []
    for path, size in files:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # gone, or nobody's to read but root's
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        address = libc.mmap(None, size, PROT_READ, MAP_SHARED, fd, 0)
        error = ctypes.get_errno()
        os.close(fd)
        if address != MAP_FAILED:
            mapped.append((address, size))
        elif error != errno.ENODEV:  # what cannot be mapped at all has no pages
            raise OSError(error, os.strerror(error), path)
    for address, size in mapped:
        # The limit of an ordinary user, or the lack of a right, ends locking for all.
        if locked and libc.mlock(address, size) != 0:
            locked = False
            libc.munlockall()
        if not locked:
            read_in(address, size)
    os.write(answers, b"1" if locked else b"0")
    while os.read(orders, 16):
        if not locked:
            for address, size in mapped:
                read_in(address, size)
        os.write(answers, b"1" if locked else b"0")


def read_in(address: int, size: int) -> None:
    """Have all pages of a mapping in memory."""
    if libc.madvise(address, size, MADV_POPULATE_READ) == 0:
        return
    if ctypes.get_errno() == errno.EINVAL:  # before Linux 5.14
        for at in range(address, address + size, PAGE):
            ctypes.c_ubyte.from_address(at).value  # noqa: B018 - a page is read by this


def in_memory(files: Sequence[File]) -> list[bytes | None]:
    """Of each file which pages are in memory, as `mincore` says; None where that is not known."""
    if len(files) > LOOKED_INTO:
        return [None]
    return [pages_in_memory(path, size) for path, size in files]


def pages_in_memory(path: str, size: int) -> bytes | None:
    """A byte for each page; None of a file that is not this user's, of which the kernel lies."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    is_own = os.geteuid() in (0, os.fstat(fd).st_uid)
    address = libc.mmap(None, size, PROT_READ, MAP_SHARED, fd, 0)
    os.close(fd)
    if address == MAP_FAILED:
        return b""
    pages = (ctypes.c_ubyte * -(-size // PAGE))()
    is_known = is_own and libc.mincore(address, size, pages) == 0
    libc.munmap(address, size)
    return bytes(pages) if is_known else None


def drop(files: Sequence[File], *, written_back: bool = False) -> None:
    """Drop files from memory.

    Args:
        files: Paths and sizes.
        written_back: Whether to write back first what is not yet on the disk, which stays else.
    """
    for path, _ in files:
        if os.getppid() != HARNESS:  # it is dead; on a busy disk this loop takes minutes
            sys.exit()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if written_back:
                os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            continue
        finally:
            os.close(fd)


def unlimit_locking() -> None:
    """Lock as much as wanted, where root runs this; else up to the limit that there is."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for limit in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        except (OSError, ValueError):
            continue
        return


if __name__ == "__main__":
    main()
