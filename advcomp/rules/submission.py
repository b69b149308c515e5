"""A submission as the referee holds it: a copy without links, healed, laid over, digested."""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from advcomp.errors import InvalidConfig, InvalidSubmission
from advcomp.rules.folders import walk_copy
from advcomp.rules.paths import normal_path, parents, path_fault, shown

ARCHIVE_EXTENSIONS = (".zip", ".tar", ".tar.gz")
REPACKABLE = (
    *(".tgz", ".xz", ".txz", ".bz2", ".tbz2", ".tbz", ".zst", ".tzst", ".7z", ".rar", ".gz"),
    *(".lz", ".lz4", ".lzma", ".z", ".br", ".zipx", ".whl", ".cab", ".iso"),
)
"""Ends of archives that are not taken, in lower case."""
NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What the name of an entry must match."""
NAME_RULE = (
    'a name of 1 to 64 letters, digits, ".", "_" and "-" that starts with a letter or a digit'
)
"""The same, for people."""

_PROGRAM_STARTS = (b"#!", b"\x7fELF")


def default_name(path: Path) -> str:
    """The name of an entry that is given none: its base name without an archive's extension."""
    extension = next(filter(path.name.endswith, ARCHIVE_EXTENSIONS), "")
    return path.name.removesuffix(extension)


def is_archive(path: Path) -> bool:
    """Whether `path` is to be unpacked (True) or copied (False).

    Raises:
        InvalidSubmission: It is neither a folder nor a file called like an archive.
    """
    if path.is_dir():
        return False
    if path.is_file() and path.name.endswith(ARCHIVE_EXTENSIONS):
        return True
    raise InvalidSubmission(f"{path}: must be a folder, .zip, .tar or .tar.gz; got {_kind(path)}")


def _kind(path: Path) -> str:
    """What stands at a path that is no submission, and how to make one of it."""
    if not path.exists():
        return "nothing there"
    if not path.is_file():
        return "something else"
    if path.name.lower().endswith(ARCHIVE_EXTENSIONS):
        return f"a file named {path.name}; rename it to {path.name.lower()}"
    suffixes = "".join(path.suffixes[-2:])
    if suffixes.lower().endswith(REPACKABLE):
        return f"a {suffixes}; unpack it, and pack its folder as .tar.gz: tar -czf NAME.tar.gz DIR"
    return f"a file named {path.name}"


def lay_over(folder: Path, files: Mapping[str, Path]) -> None:
    """Put the tournament's own files into a copy, over what may stand there.

    Args:
        files: Path inside -> file outside.

    Raises:
        InvalidConfig: All pairs that can be in no submission, before anything is written.
        InvalidSubmission: All pairs that this one has no room for, before anything is written.
    """
    pairs = [(normal_path(inside), outside) for inside, outside in files.items()]
    paths = [inside for inside, _ in pairs]
    taken = {above for inside in paths for above in parents(inside)}
    taken.update(path for path, times in Counter(paths).items() if times > 1)
    faults = [
        f'"files": {shown(inside)}: {fault}'
        for inside, outside in pairs
        if (fault := _overlay_fault(inside, outside, taken)) is not None
    ]
    if faults:
        raise InvalidConfig(*faults)
    clashes = [
        f'"files": {shown(inside)}: {clash}'
        for inside in paths
        if (clash := _clash(folder, inside)) is not None
    ]
    if clashes:
        raise InvalidSubmission(*clashes)
    for inside, outside in pairs:
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(outside, target)
        target.chmod(0o755 if os.access(outside, os.X_OK) else 0o644)


def heal(folder: Path, entry_point: str) -> tuple[str, ...]:
    """Give the entry point, and every other script or program, the exec bit that it lacks.

    Archives made on some systems lose these bits; in 2017 they were healed, too. Returns a note
    for each file that was changed.
    """
    healed = [
        path
        for path, executable in walk_copy(folder)
        if executable is False and (path == entry_point or _is_program(folder / path))
    ]
    for path in healed:
        (folder / path).chmod(0o755)
    return tuple(f"{shown(path)}: was not executable; healed in the copy" for path in healed)


def _overlay_fault(inside: str, outside: Path, taken: set[str]) -> str | None:
    """What is wrong with a pair whatever the submission holds: the organiser's mistake."""
    fault = path_fault(inside)
    if fault is not None:
        return f"{fault}; it must be a path in the submission"
    if not outside.is_file():
        return f"must name a file; there is none at {outside}"
    if inside in taken:
        return "is named twice, or is a folder of another"
    return None


def _clash(folder: Path, inside: str) -> str | None:
    """What in a submission stands in the way: its author's doing, which stops no tournament."""
    if any(_is_there_but_no_folder(folder / above) for above in parents(inside)):
        return "goes through a file of the submission, which must be a folder or absent"
    if (folder / inside).is_dir():
        return "is a folder of the submission, which must be a file or absent"
    return None


def _is_there_but_no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(_PROGRAM_STARTS)
