"""Write files so that a crash leaves the old content or the new, never a part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.rules.plain_file import require_plain_file


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What goes wrong with writing a file carries its name: a disk that is full tells none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_durably(path: Path, content: bytes) -> None:
    """Replace the file at `path` with `content`, on disk when this returns."""
    partial = path.with_name(f".{path.name}.partial")
    with naming(path), partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def write_named_file(path: Path, content: bytes) -> None:
    """Write durably what somebody named; links are followed, and folders on the way are made.

    Raises:
        OSError: It is a folder, or a FIFO, socket or device, which a file would take the place of.
    """
    if path.exists():
        require_plain_file(path, "name a file")
    place = Path(os.path.realpath(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    write_durably(place, content)


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
