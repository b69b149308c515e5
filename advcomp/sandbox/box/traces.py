"""Marks in temporary folders that say which harness made them, so that others can tell it is dead.

A folder belongs to a dead harness if its mark says so; a folder without a mark is not ours.
"""

import os
import stat
import tempfile
from pathlib import Path

from advcomp.sandbox.limits.cgroups import is_dead, owner_tag

__all__ = ["abandoned", "in_use", "mark"]

MARK = "harness"
TAG_BYTES = 200


def mark(folder: Path) -> None:
    """Say that this process made a folder."""
    (folder / MARK).write_text(owner_tag(), encoding="ascii")


def abandoned(where: Path | None = None) -> list[Path]:
    """Folders of this user's dead harnesses among the temporary ones."""
    return [folder for folder, tag in _marked(where) if is_dead(tag)]


def in_use(where: Path | None = None) -> list[Path]:
    """Folders of harnesses that are alive, or that we cannot look at."""
    return [folder for folder, tag in _marked(where) if not is_dead(tag)]


def _marked(where: Path | None) -> list[tuple[Path, str]]:
    top = where or Path(tempfile.gettempdir())
    folders = sorted(path for path in top.iterdir() if _is_own_folder(path))
    return [(folder, tag) for folder in folders if (tag := _tag(folder / MARK))]


def _is_own_folder(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _tag(file: Path) -> str | None:
    """The tag in a mark; None where there is no mark, or a link where one should be."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(fd, TAG_BYTES).decode("ascii", errors="replace")
    except OSError:
        return None
    finally:
        os.close(fd)
