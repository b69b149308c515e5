"""The referee's end of unpacking: a stream of records from a box becomes a fresh folder.

The unpacker reads a stranger's archive, so its box may be in the stranger's hands, and nothing it
says is taken on trust: every path is checked again, sizes and counts are capped, and only regular
files and folders can be made, under a folder that did not exist before. A copy is made from a file
that stands in that folder already.

A record is one byte of kind, four bytes of length (little-endian) and that many bytes:

    D path      a folder              B bytes   more of the last file's content
    F path      a file                C path NUL path   a copy: new path, path of a file
    X path      an executable file    P text    a problem: the submission is refused
                                      E         the end
"""

import errno
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from advcomp.errors import InvalidSubmission
from advcomp.rules.paths import parents, path_fault, shown
from advcomp.rules.sizes import MAX_MEMBERS, MAX_UNPACKED_BYTES

RECORD = struct.Struct("<cI")
MAX_RECORD_BYTES = 1 << 20

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)

_CHUNK = 1 << 20
_MAX_PROBLEMS = 64
_MAX_TEXT = 1000


def receive(
    stream: BinaryIO,
    folder: Path,
    *,
    name: str,
    max_bytes: int = MAX_UNPACKED_BYTES,
    max_members: int = MAX_MEMBERS,
) -> None:
    """Make `folder` from what the unpacker writes to `stream`.

    Args:
        folder: Must not exist; after an error it does not exist either.
        name: What messages call the submission.

    Raises:
        InvalidSubmission: The problems that the unpacker found, or that its answer is not one.
        OSError: See `FolderWriter.finish`.
    """
    with fresh_folder(folder):
        writer = FolderWriter(folder, max_bytes, max_members)
        problems = _Receiver(stream, writer).run()
        if problems:
            raise InvalidSubmission(*(f"{name}: {problem}" for problem in problems))
        writer.finish()


@contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """Make `folder`, which must not exist, and take it away again where an exception ends this."""
    folder.mkdir()
    folder.chmod(0o755)
    with ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, folder)
        yield
        on_failure.pop_all()


class FolderWriter:
    """Makes a tree of regular files and folders, and nothing else, under a fresh folder.

    Where the disk gets full it goes on counting, and writes nothing more: whether that is a matter
    of the submission, which is too large, or of ours is known only at the end.

    Raises (every method):
        Refused: A path that is no path, is there already, or has no folder; too much of anything.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int = MAX_UNPACKED_BYTES,
        max_members: int = MAX_MEMBERS,
    ) -> None:
        self._folder = folder
        self._bytes_left = max_bytes
        self._members_left = max_members
        self._folders = {""}
        self._files: dict[str, NewFile] = {}
        self._full: OSError | None = None

    def add_folder(self, path: str) -> None:
        """Make a folder in one that is there."""
        self._claim(path)
        self._folders.add(path)

        def make() -> None:
            (self._folder / path).mkdir()
            (self._folder / path).chmod(0o755)

        self.put(make)

    def add_file(self, path: str, *, executable: bool) -> "NewFile":
        """An empty new file, to be closed by the caller."""
        self._claim(path)
        file = self._files[path] = NewFile(self, self._folder / path, executable=executable)
        self.put(file.open)
        return file

    def add_copy(self, path: str, original: str) -> None:
        """Copy a file that this writer made; counted before it is made."""
        if original not in self._files:
            raise Refused(f"{shown(original)}: is copied, but is no file")
        source = self._files[original]
        self.spend(source.size)
        with self.add_file(path, executable=source.executable) as file:
            file.size = source.size
            self.put(lambda: file.fill(source))

    def finish(self) -> None:
        """Say whether all is there.

        Raises:
            OSError: The disk got full, and what was to be written is within the caps.
        """
        if self._full is not None:
            raise self._full

    def spend(self, size: int) -> None:
        """Count bytes that are about to be written."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise Refused("there are more bytes than a submission may have")

    def put(self, write: Callable[[], None]) -> None:
        """Write something to the disk, as long as that is not full."""
        if self._full is not None:
            return
        try:
            write()
        except OSError as error:
            if error.errno not in DISK_IS_FULL:
                raise
            self._full = error

    def _claim(self, path: str) -> None:
        fault = path_fault(path)
        if fault is not None:
            raise Refused(f"{shown(path)}: {fault}")
        if path in self._folders or path in self._files:
            raise Refused(f"{shown(path)}: is there twice")
        if parents(path) and parents(path)[-1] not in self._folders:
            raise Refused(f"{shown(path)}: stands in no folder")
        self._members_left -= 1
        if self._members_left < 0:
            raise Refused("there are more files and folders than a submission may have")


class NewFile:
    """A file that a `FolderWriter` makes.

    Attributes:
        size: Bytes that were written to it, or would have been on a larger disk.
    """

    def __init__(self, writer: FolderWriter, path: Path, *, executable: bool) -> None:
        self._writer, self._path, self.executable = writer, path, executable
        self._fd = -1
        self.size = 0

    def open(self) -> None:
        """Make it on the disk."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        os.fchmod(self._fd, 0o755 if self.executable else 0o644)

    def write(self, content: bytes) -> None:
        """Add to its content, within the cap on all files together."""
        self._writer.spend(len(content))
        self.size += len(content)
        self._writer.put(lambda: self._put(content))

    def fill(self, source: "NewFile") -> None:
        """Give it on the disk what another file has there."""
        with source._path.open("rb") as original:
            while content := original.read(_CHUNK):
                self._put(content)

    def close(self) -> None:
        """Write no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "NewFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


class Refused(Exception):
    """Why something is not written."""


class _Receiver:
    """Follows the records to the end."""

    def __init__(self, stream: BinaryIO, writer: FolderWriter) -> None:
        self._stream = stream
        self._writer = writer
        self._file: NewFile | None = None
        self._problems: list[str] = []

    def run(self) -> list[str]:
        """Write all that comes; returns the problems that were reported, or that came up."""
        try:
            while self._step():
                pass
        except Refused as refused:
            return [*self._problems, f"cannot be unpacked: {refused}"]
        finally:
            self._close()
        return self._problems

    def _step(self) -> bool:
        kind, length = RECORD.unpack(self._read(RECORD.size))
        if length > MAX_RECORD_BYTES:
            raise Refused("the unpacker wrote a record that is too long")
        content = self._read(length)
        if kind == b"B":
            if self._file is None:
                raise Refused("the unpacker wrote content of no file")
            self._file.write(content)
            return True
        self._close()
        if kind == b"E":
            return False
        self._take(kind, _text(content))
        return True

    def _take(self, kind: bytes, text: str) -> None:
        if kind == b"D":
            self._writer.add_folder(text)
        elif kind in (b"F", b"X"):
            self._file = self._writer.add_file(text, executable=kind == b"X")
        elif kind == b"C":
            self._writer.add_copy(*_pair(text))
        elif kind == b"P":
            self._add_problem(text)
        else:
            raise Refused("the unpacker wrote a record of an unknown kind")

    def _add_problem(self, text: str) -> None:
        if not (text.isascii() and text.isprintable() and len(text) <= _MAX_TEXT):
            raise Refused("the unpacker reported a problem that cannot be shown")
        self._problems.append(text)
        if len(self._problems) >= _MAX_PROBLEMS:
            raise Refused("there are too many problems")

    def _read(self, size: int) -> bytes:
        content = self._stream.read(size)
        while len(content) < size:
            more = self._stream.read(size - len(content))
            if not more:
                raise Refused("the unpacker stopped early; is the archive damaged, or a bomb?")
            content += more
        return content

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Refused("the unpacker wrote text that is not UTF-8") from error


def _pair(text: str) -> tuple[str, str]:
    path, separator, original = text.partition("\0")
    if not separator:
        raise Refused("the unpacker wrote a copy without an original")
    return path, original
