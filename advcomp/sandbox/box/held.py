"""Folders of a box that the referee holds by descriptor, and reads when every process is dead.

Theory of operation. The descriptor is opened through /proc/PID/root after the box is mounted and
before the program starts, so it is the root of a tmpfs that we made, whatever the program does
to names and modes later; it keeps the tmpfs alive after the box is gone. A file is opened by name
relative to it, first as a bare location (O_PATH | O_NOFOLLOW: no link is followed, no FIFO
blocks, no device is touched), then looked at, and only a regular file is opened for reading.
Nobody else can change the folder by then: what was looked at is what is read.
"""

import errno
import os
import stat
from itertools import islice
from pathlib import Path
from typing import Self

from advcomp.errors import SandboxError

__all__ = ["EmptyFolder", "HeldFolder"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class EmptyFolder:
    """The output of a run that has none; an `OutputFolder`."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """None: there is no file."""
        return None

    def names(self, at_most: int) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def used_bytes(self) -> int:
        """Nothing."""
        return 0

    def is_full(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to free."""


class HeldFolder:
    """One folder of a dead box; an `OutputFolder`.

    Args:
        fd: Descriptor of the folder, opened for reading; belongs to this object from now on.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def of_process(cls, pid: int, path: str) -> Self:
        """Hold the folder `path` as process `pid` sees it; no link on the way is followed.

        Raises:
            SandboxError: It cannot be opened; the process is dead, most likely.
        """
        try:
            return cls(_open_below(f"/proc/{pid}/root", path))
        except OSError as error:
            raise SandboxError(f"{path}: the box does not let us hold it: {error}") from error

    @classmethod
    def of_path(cls, path: Path) -> Self:
        """Hold a folder of the host's; all of `path` was made by us.

        Raises:
            SandboxError: It cannot be opened.
        """
        try:
            return cls(os.open(path, FOLDER))
        except OSError as error:
            raise SandboxError(f"{path}: cannot be held: {error}") from error

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """The content of the regular file `name`, or None (see `OutputFolder.read`)."""
        if not name or "/" in name or "\0" in name or name in (".", ".."):
            return None
        self._make_searchable()
        try:
            place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL):
                return None
            raise
        try:
            return _read_regular(place, max_bytes)
        finally:
            os.close(place)

    def names(self, at_most: int) -> tuple[str, ...]:
        """Up to `at_most` names, sorted, undecodable bytes escaped; costs no more than that."""
        self._make_searchable()
        with os.scandir(self._fd) as entries:
            found = [_printable(entry.name) for entry in islice(entries, at_most)]
        return tuple(sorted(found))

    def used_bytes(self) -> int:
        """How much of its tmpfs is in use."""
        usage = os.fstatvfs(self._fd)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize

    def is_full(self) -> bool:
        """Whether there is no room left: not one block, or not one more file."""
        usage = os.fstatvfs(self._fd)
        return usage.f_bavail == 0 or (usage.f_files > 0 and usage.f_ffree == 0)

    def close(self) -> None:
        """Let go; the kernel frees the folder's memory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _make_searchable(self) -> None:
        """Undo a `chmod 000` of the folder itself, which would stop an ordinary user."""
        mode = os.fstat(self._fd).st_mode
        if mode & 0o500 != 0o500 and os.geteuid() != 0:
            os.fchmod(self._fd, 0o700)


def _open_below(root: str, path: str) -> int:
    """Open a folder from `root` on, step by step: a link in an image could lead anywhere."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in path.strip("/").split("/"):
        try:
            deeper = os.open(name, FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _read_regular(place: int, max_bytes: int) -> bytes | None:
    """Content of what an O_PATH descriptor stands for, if it is regular and small enough."""
    status = os.fstat(place)
    if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
        return None
    # The magic link leads to this very inode; a path could not be trusted.
    link = f"/proc/self/fd/{place}"
    if not status.st_mode & 0o400 and os.geteuid() != 0:
        os.chmod(link, 0o600)  # noqa: PTH101 - of an inode, not of a path
    fd = os.open(link, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        return file.read(status.st_size)


def _printable(name: str) -> str:
    """A name as text that can be shown: undecodable bytes and control characters escaped."""
    raw = os.fsencode(name)
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
