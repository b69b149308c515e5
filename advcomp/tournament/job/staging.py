"""Folders that boxes read: private copies under names that say nothing, with equal times.

Each run of advcomp has one staging folder; its path is written into the run folder before it is
made, so that the next start can remove what a killed run left. The staging folder names the run
in turn: what does not is not ours to remove, whatever a run folder says. It is marked with its
harness, too: `advcomp gc` finds those whose run folder is gone.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.rules.durable import write_durably
from advcomp.sandbox.box.traces import mark

FILE_NAME = "staging"
_OWNER = "owner"
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
    _remove_stale(note)
    root = Path(tempfile.gettempdir(), f"tmp{secrets.token_hex(8)}")
    write_durably(note, os.fsencode(root))
    root.mkdir(0o700)
    (root / _OWNER).write_bytes(os.fsencode(note))
    mark(root)
    try:
        yield Staging(root)
    finally:
        shutil.rmtree(root)
        note.unlink()


def _remove_stale(note: Path) -> None:
    """Remove the staging folder that a note names, if it was made for this very note."""
    try:
        root = Path(os.fsdecode(note.read_bytes()))
        is_ours = (root / _OWNER).read_bytes() == os.fsencode(note)
    except (OSError, ValueError):  # there is no note, or no folder; or the note is no path
        return
    if is_ours:
        shutil.rmtree(root, ignore_errors=True)


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
