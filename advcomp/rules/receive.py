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

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from advcomp.errors import InvalidSubmission
from advcomp.rules.paths import MAX_MEMBERS, MAX_UNPACKED_BYTES, parents, path_fault, shown

RECORD = struct.Struct("<cI")
MAX_RECORD_BYTES = 1 << 20

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
    """
    with fresh_folder(folder):
        problems = _Receiver(stream, FolderWriter(folder, max_bytes, max_members)).run()
        if problems:
            raise InvalidSubmission(*(f"{name}: {problem}" for problem in problems))


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
        self._files: dict[str, bool] = {}

    def add_folder(self, path: str) -> None:
        """Make a folder in one that is there."""
        self._claim(path)
        (self._folder / path).mkdir()
        (self._folder / path).chmod(0o755)
        self._folders.add(path)

    def add_file(self, path: str, *, executable: bool) -> BinaryIO:
        """An empty new file, to be written with `write` and closed by the caller."""
        self._claim(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._folder / path, flags, 0o600)
        os.fchmod(file, 0o755 if executable else 0o644)
        self._files[path] = executable
        return os.fdopen(file, "wb")

    def write(self, file: BinaryIO, content: bytes) -> None:
        """Add to a file's content, within the cap on all of them together."""
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise Refused("there are more bytes than a submission may have")
        file.write(content)

    def add_copy(self, path: str, original: str) -> None:
        """Copy a file that this writer made."""
        if original not in self._files:
            raise Refused(f"{shown(original)}: is copied, but is no file")
        with (
            (self._folder / original).open("rb") as source,
            self.add_file(path, executable=self._files[original]) as file,
        ):
            while content := source.read(_CHUNK):
                self.write(file, content)

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


class Refused(Exception):
    """Why something is not written."""


class _Receiver:
    """Follows the records to the end."""

    def __init__(self, stream: BinaryIO, writer: FolderWriter) -> None:
        self._stream = stream
        self._writer = writer
        self._file: BinaryIO | None = None
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
            self._writer.write(self._file, content)
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
