"""Folders that boxes read: private copies under names that say nothing, with equal times.

Each run of advcomp has one staging folder, made by `mkdtemp`; its path is written into the run
folder before it is used, so that the next start can remove what a killed run left.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.tournament.durable import write_durably

FILE_NAME = "staging"
_EPOCH_NS = 1_483_228_800 * 10**9
"""Modification time of every staged file: 2017-01-01."""


class Staging:
    """Makes and removes staged folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder that is gone afterwards."""
        path = Path(tempfile.mkdtemp(dir=self.root))
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path)


@contextmanager
def staging_for(run: Path) -> Iterator[Staging]:
    """The staging folder of a run; removes what an earlier, killed one left."""
    note = run / FILE_NAME
    if note.exists():
        shutil.rmtree(note.read_text(encoding="utf-8"), ignore_errors=True)
    root = Path(tempfile.mkdtemp())
    write_durably(note, str(root).encode())
    try:
        yield Staging(root)
    finally:
        shutil.rmtree(root)
        note.unlink()


def stage_images(folder: Path, images: Iterable[tuple[str, bytes]]) -> None:
    """Write `<name>.png` files in the order given, then give them equal times."""
    for name, png in images:
        write_staged(folder / f"{name}.png", png)
    os.utime(folder, ns=(_EPOCH_NS, _EPOCH_NS))


def write_staged(path: Path, content: bytes) -> None:
    """Write one file that boxes may read and that says nothing but its content."""
    path.write_bytes(content)
    path.chmod(0o644)
    os.utime(path, ns=(_EPOCH_NS, _EPOCH_NS))
