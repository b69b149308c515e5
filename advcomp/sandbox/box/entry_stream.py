"""An entry's folder as a stream of bytes, which the first process of a container unpacks.

The entry goes through a pipe and not through a mount: inside it has no other path than /code,
nothing tells where it lies outside, no other box holds the same file, and its memory is the box's.
The format is told in first/first.c: records of a kind, a path, and what the kind needs.
"""

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["bytes_in_tmpfs", "entry_stream", "number", "text", "texts"]

CHUNK_BYTES = 1 << 20
PAGE_BYTES = 4096
READABLE, SEARCHABLE = 0o600, 0o700


def number(value: int) -> bytes:
    """A number as first.c reads it."""
    return struct.pack("=I", value)


def text(value: str) -> bytes:
    """A text as first.c reads it."""
    raw = os.fsencode(value)
    return number(len(raw)) + raw


def texts(values: Sequence[str]) -> bytes:
    """A list of texts as first.c reads it."""
    return number(len(values)) + b"".join(map(text, values))


def entry_stream(folder: Path | None) -> Iterator[bytes]:
    """A folder (or none) as first.c unpacks it: links as links, modes kept, second links, too."""
    seen: dict[tuple[int, int], str] = {}
    for path in [] if folder is None else _below(folder):
        name = str(path.relative_to(folder or path))
        status = path.lstat()
        identity = status.st_dev, status.st_ino
        if stat.S_ISLNK(status.st_mode):
            yield b"l" + text(name) + text(os.readlink(path))  # noqa: PTH115 - as it is written
        elif stat.S_ISDIR(status.st_mode):
            yield b"d" + text(name) + number(stat.S_IMODE(status.st_mode) | SEARCHABLE)
        elif identity in seen:
            yield b"h" + text(name) + text(seen[identity])
        elif stat.S_ISREG(status.st_mode):
            seen[identity] = name
            yield b"f" + text(name) + number(stat.S_IMODE(status.st_mode) | READABLE)
            yield from _content(path)
    yield b"e"


def bytes_in_tmpfs(folder: Path | None) -> int:
    """Room that a copy of `folder` takes: whole pages for a file, one for anything else."""
    found = [] if folder is None else _below(folder)
    sizes = (path.lstat().st_size if path.is_file() else 0 for path in found)
    return sum(max(1, -(-size // PAGE_BYTES)) * PAGE_BYTES for size in sizes)


def _below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, a folder before what it holds; no link is followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in folders + files)


def _content(path: Path) -> Iterator[bytes]:
    """Size and content of a file: exactly that many bytes, as they stand now."""
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        yield struct.pack("=Q", left)
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{path}: became shorter while it was read")
            left -= len(chunk)
            yield chunk
