"""What stands where engines open files of an image themselves: nothing that could make them wait.

An engine reads some files of an image before any of its programs runs, as root and with no time
limit: a FIFO there holds it for ever, a device feeds it without end. So the layers are laid over
one another here as an engine would lay them, as far as kinds of files go, and every path that
engines open must come to a plain file or to nothing.

Kept are folders, links and special files; plain files only as long as their layer lasts, where
they take away what lies below. White-outs are those of the OCI (image-spec, layer.md): they take
away from lower layers only.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

from advcomp.rules.paths import shown

__all__ = ["OPENED", "WHITEOUT", "FileKinds"]

OPENED = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Who a user is; and what engines mount files over, which they make where they are absent."""
WHITEOUT = ".wh."

_OPAQUE = ".wh..wh..opq"
_NOT_THE_IMAGES = ("proc", "sys", "dev")
"""Trees that are the kernel's when a runtime opens files: a link may lead to anything there."""
_MAX_HOPS = 40


@dataclass(frozen=True, slots=True)
class _Special:
    """Anything but a folder or a plain file; `target` is a link's."""

    kind: str
    target: str = ""


_PLAIN = _Special("plain file")
_Folder = dict[str, Union["_Folder", _Special]]


@dataclass(slots=True)
class _Layer:
    """One layer: its own files, and what it takes away below."""

    files: _Folder = field(default_factory=dict)
    whiteouts: list[str] = field(default_factory=list)


class FileKinds:
    """The kinds of files that an image comes to, layer after layer."""

    def __init__(self) -> None:
        self._merged: _Folder = {}
        self._layer = _Layer()

    def add(self, member: tarfile.TarInfo, path: str) -> None:
        """Take a member of the current layer.

        Args:
            path: Relative to the root, without empty parts and `..`.
        """
        above, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            self._layer.whiteouts.append(path)
            return
        if not path:
            return
        folder = _folder(self._layer.files, above)
        if member.isdir():
            if not isinstance(folder.get(name), dict):
                folder[name] = {}
            return
        folder[name] = self._kind(member)

    def end_layer(self) -> None:
        """Lay the current layer over those before it; the next member begins another."""
        for path in self._layer.whiteouts:
            _take_away(self._merged, path)
        _lay_over(self._merged, self._layer.files)
        self._layer = _Layer()

    def problems(self) -> Iterator[str]:
        """What an engine should not open, a sentence for each path."""
        for path in OPENED:
            found = self._at_the_end_of(path)
            if found is not None:
                yield (
                    f"its {path} {found}; engines open it, so it must be a plain file, a link to "
                    "one in the image, or absent"
                )

    def _kind(self, member: tarfile.TarInfo) -> "_Folder | _Special":
        if member.issym():
            return _Special("symbolic link", member.linkname)
        if member.islnk():
            target = "/".join(_parts(member.linkname))
            found = _look_up(self._layer.files, target) or _look_up(self._merged, target)
            return found if isinstance(found, _Special) else _PLAIN
        if member.isfifo():
            return _Special("is a FIFO")
        if member.ischr() or member.isblk():
            return _Special("is a device")
        return _PLAIN

    def _at_the_end_of(self, path: str) -> str | None:
        """What is wrong with what `path` leads to, links followed within the image."""
        at: list[str] = []
        ahead = _parts(path)
        hops = 0
        while ahead:
            part = ahead.pop(0)
            if part == "..":
                at = at[:-1]
                continue
            if hops and not at and part in _NOT_THE_IMAGES:
                return f"is a link into /{part}"
            found = _look_up(self._merged, "/".join((*at, part)))
            if not isinstance(found, _Special):
                at.append(part)
                continue
            if found.kind != "symbolic link":
                where = f"leads to {shown('/'.join((*at, part)))}, which "
                return f"{where if hops or ahead else ''}{found.kind}"
            hops += 1
            if hops > _MAX_HOPS:
                return "is a link that leads in circles"
            if found.target.startswith("/"):
                at = []
            ahead = [*_parts(found.target), *ahead]
        return "is a folder" if isinstance(_look_up(self._merged, "/".join(at)), dict) else None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _folder(tree: _Folder, path: str) -> _Folder:
    """The folder at `path`, made where there is none."""
    for part in _parts(path):
        below = tree.get(part)
        if not isinstance(below, dict):
            below = tree[part] = {}
        tree = below
    return tree


def _look_up(tree: _Folder, path: str) -> "_Folder | _Special | None":
    """What stands at `path`; None where nothing does, or a plain file of a lower layer."""
    found: _Folder | _Special | None = tree
    for part in _parts(path):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _take_away(tree: _Folder, whiteout: str) -> None:
    above, _, name = whiteout.rpartition("/")
    folder = _look_up(tree, above)
    if not isinstance(folder, dict):
        return
    if name == _OPAQUE:
        folder.clear()
    else:
        folder.pop(name.removeprefix(WHITEOUT), None)


def _lay_over(lower: _Folder, upper: _Folder) -> None:
    """Lay one tree over another, without its plain files."""
    waiting = [(lower, upper)]
    while waiting:
        below, above = waiting.pop()
        for name, node in above.items():
            if not isinstance(node, dict):
                below.pop(name, None)
                if node is not _PLAIN:
                    below[name] = node
                continue
            known = below.get(name)
            if not isinstance(known, dict):
                known = below[name] = {}
            waiting.append((known, node))
