"""Files that somebody names, or may have put in place of ours, are opened here.

What would have us wait for ever is refused.

To open a FIFO is to wait for its writer, a terminal or a socket may say nothing, and /dev/zero
never ends.
"""

import errno
import os
import stat
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 1 << 30
"""More than anything that is read whole has, far."""
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class _NotPlain(OSError):
    """A FIFO, socket or device where a file was expected."""

    def __init__(self, kind: str, path: Path, remedy: str) -> None:
        said = f"expected a file on a disk; got {kind}; {remedy}"
        super().__init__(errno.EINVAL, said, str(path))
        self.kind = kind


class _TooLarge(OSError):
    """A file that nobody can have meant."""

    def __init__(self, size: int, path: Path, at_most: int) -> None:
        self.kind = f"{size:,} bytes"
        said = f"expected at most {at_most:,} bytes; got {self.kind}; is it another file?"
        super().__init__(errno.EFBIG, said, str(path))


def open_plain_file(path: Path) -> BinaryIO:
    """Open a file for reading; links on the way are followed.

    Raises:
        OSError: It cannot be opened or is a folder, FIFO, socket or device: `strerror` says which.
    """
    _require(path.stat().st_mode, path)  # the opening itself does something to some devices
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require(os.fstat(opened).st_mode, path)
        return os.fdopen(opened, "rb")
    except OSError:
        os.close(opened)
        raise


def read_plain_file(path: Path, at_most: int | None = MOST_BYTES) -> bytes:
    """What is in a file of so many bytes at most; None takes any.

    Raises:
        OSError: See `open_plain_file`; or it is larger.
    """
    with open_plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if at_most is not None and size > at_most:
            raise _TooLarge(size, path, at_most)
        return file.read()


def read_plain_text(path: Path, at_most: int | None = MOST_BYTES) -> str:
    """The UTF-8 text of a file, with or without a byte order mark, lines ending in a line feed.

    Raises:
        OSError: See `read_plain_file`.
        UnicodeDecodeError: It is not UTF-8.
    """
    content = BytesIO(read_plain_file(path, at_most))
    with TextIOWrapper(content, encoding="utf-8-sig") as text:
        return text.read()


def write_plain_file(path: Path, flags: int = 0, mode: int = 0o666) -> int:
    """Open a file for reading and writing, made where there is none; returns its descriptor.

    Raises:
        OSError: See `open_plain_file`.
    """
    if path.exists():
        require_plain_file(path, "remove it")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | flags, mode)


def told(error: Exception) -> str:
    """What an error says is there, without the number and the path that an OSError carries."""
    if isinstance(error, _NotPlain | _TooLarge):
        return error.kind
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


_TO_READ = "write what it gives to a file, and name that"


def require_plain_file(path: Path, remedy: str = _TO_READ) -> None:
    """Have a file that somebody else is going to open, or replace.

    Args:
        path: Of the file.
        remedy: What to do about anything else, for the end of a message.

    Raises:
        OSError: There is none, or it is a folder, FIFO, socket or device: `strerror` says which.
    """
    _require(path.stat().st_mode, path, remedy)


def _require(mode: int, path: Path, remedy: str = _TO_READ) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        raise _NotPlain(kind, path, remedy)
