"""Files of equal content in a run's copies of entries stand on the disk once, by hard links.

Safe, since nobody writes to a copy: a box gets files of its own, and a copy that is taken anew is
a fresh folder. Where the file system has no hard links, or no more for a file, it stays a copy.
"""

import hashlib
import stat
import tempfile
from pathlib import Path

WORTH_BYTES = 4096
"""Smaller files take no less room for it."""

Kind = tuple[int, int, str]
"""Size, mode and SHA-256 of a file."""


class EqualFiles:
    """The files of the copies below a folder that were seen so far."""

    def __init__(self, entries: Path) -> None:
        self._entries = entries
        self._seen: dict[Kind, Path] = {}

    def join(self, copy: Path) -> None:
        """Make each file of a copy, or a file, one with an equal one that was seen before."""
        for path in sorted(copy.rglob("*")) if copy.is_dir() else [copy]:
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size >= WORTH_BYTES:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                kind = (status.st_size, status.st_mode, content)
                first = self._seen.setdefault(kind, path)
                if not first.samefile(path):
                    self._link(first, path)

    def _link(self, first: Path, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".", dir=self._entries) as folder:
            other = Path(folder) / "link"
            try:
                other.hardlink_to(first)
            except OSError:
                return
            other.replace(path)
