"""Paths of files within a submission: which ones are accepted, by the box and by the referee.

A path is relative, with `/` between its parts, and means one file on every system.
"""

import json
import unicodedata

_MAX_PART_BYTES, _MAX_PATH_BYTES, _MAX_DEPTH = 255, 1024, 64
_SHOWN = 120


def path_fault(path: str) -> str | None:
    """What keeps `path` from being a file of a submission; None where nothing does."""
    parts = path.split("/")
    if path.startswith("/"):
        return "is an absolute path"
    if ".." in parts:
        return 'has a ".." in its path'
    if "" in parts or "." in parts:
        return "has an empty part in its path"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if "\\" in path or not path.isprintable():
        return "has a backslash or a character that cannot be printed in its name"
    longest = max(len(part.encode()) for part in parts)
    if longest > _MAX_PART_BYTES or len(encoded) > _MAX_PATH_BYTES or len(parts) > _MAX_DEPTH:
        return (
            f"has a path beyond {_MAX_PATH_BYTES} bytes, {_MAX_PART_BYTES} in a part "
            f"or {_MAX_DEPTH} parts"
        )
    return None


def normal_path(path: str) -> str:
    """`path` without `.` and empty parts; a leading `/` stays, so that it can be refused."""
    root = "/" if path.startswith("/") else ""
    return root + "/".join(part for part in path.split("/") if part not in ("", "."))


def parents(path: str) -> list[str]:
    """The folders above `path`, outermost first, the root left out."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def folded(path: str) -> str:
    """The same for paths that some file systems take for one: case and Unicode form ignored."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def is_dropping(name: str) -> bool:
    """Whether a name at the root is what macOS leaves behind, and no part of the submission."""
    return name in ("__MACOSX", ".DS_Store") or name.startswith("._")


def shown(text: str) -> str:
    """`text` in quotes, as printable ASCII, cut: fit for a message."""
    quoted = json.dumps(text[:_SHOWN])
    return quoted if len(quoted) <= _SHOWN else f'{quoted[: _SHOWN - 4]}..."'
