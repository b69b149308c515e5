"""Whether a box's own uid can read the interpreter that boxes show, and the packages of it.

An installation that was made under umask 077 works for its owner alone. Root's boxes have uids
that own nothing, so in them nothing of it would be found, and every submission would seem broken.
"""

import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import advcomp
from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.box.shown import HostView

__all__ = ["require_readable"]

FOLDER, FILE = stat.S_IROTH | stat.S_IXOTH, stat.S_IROTH
CACHES = "__pycache__"
"""Folders of Python's that it can do without."""
LISTED = 3


def require_readable(view: HostView) -> None:
    """Refuse an installation that others than its owner cannot read.

    Looked at are the trees that are shown, and in them the interpreter, every package and module
    of its libraries, and all of advcomp: an installer gives all of a package the same rights.

    Raises:
        SandboxUnavailable: Folders and files that cannot be read, and the remedy.
    """
    closed = list(dict.fromkeys(path for path in _places(view.shown) if not _is_open(path)))
    if not closed:
        return
    listed = ", ".join(map(str, closed[:LISTED]))
    more = f" and {len(closed) - LISTED} more" if len(closed) > LISTED else ""
    top = next((tree for tree in view.shown if closed[0].is_relative_to(tree)), closed[0])
    raise SandboxUnavailable(
        f"{listed}{more}: expected what everybody can read, since boxes of root's have uids of "
        "their own; got an installation for its owner alone (umask 077, perhaps)",
        f"remedy: chmod -R go+rX {top}",
    )


def _places(trees: Sequence[Path]) -> Iterator[Path]:
    """Tops first, so that what is closed as a whole is named as a whole."""
    yield from trees
    libraries = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    for folder in sorted(libraries | {Path(sysconfig.get_path("scripts"))}):
        yield folder
        yield from _inside(folder)
    for parent, folders, names in os.walk(Path(advcomp.__file__).parent):
        folders[:] = [name for name in folders if name != CACHES]
        yield from (Path(parent, name) for name in folders + names)


def _inside(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in sorted(folder.iterdir()) if path.name != CACHES)
    except OSError:
        return


def _is_open(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:  # a link to nothing, which nobody can read
        return True
    wanted = FOLDER if stat.S_ISDIR(status.st_mode) else FILE
    return status.st_mode & wanted == wanted
