"""Whether the kernel can start an entry point, and what its author should mend if not.

Looks at first lines only, and only to warn: whether a program starts is found out by starting it.
"""

from pathlib import Path

from advcomp.rules.folders import walk_copy
from advcomp.rules.paths import shown

__all__ = ["first_program", "start_notes"]

_MARK = b"\xef\xbb\xbf"
_ELF, _SCRIPT = b"\x7fELF", b"#!"
_HEAD_BYTES = 1024
_NOTES = 5


def start_notes(folder: Path, entry_point: str) -> tuple[str, ...]:
    """What will keep the scripts of a copy from being started, a sentence for each."""
    notes = []
    for path, executable in walk_copy(folder):
        if executable is None:
            continue
        head = _head(folder / path)
        fault = _line_ends(head) or (_no_program(head, path) if path == entry_point else None)
        if fault is not None:
            notes.append(f"{shown(path)}: {fault}")
    more = [f"and {len(notes) - _NOTES} more scripts like these"] if len(notes) > _NOTES else []
    return (*notes[:_NOTES], *more)


def first_program(script: Path) -> str | None:
    """The program that the first line of a script names; None where it has CR LF or names none."""
    head = _head(script)
    words = head.removeprefix(_SCRIPT).split(b"\n")[0].split()
    if not head.startswith(_SCRIPT) or not words or _line_ends(head):
        return None
    return words[0].decode("ascii", "backslashreplace")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _line_ends(head: bytes) -> str | None:
    line = head.removeprefix(_MARK).split(b"\n")[0]
    if not line.startswith(_SCRIPT) or not line.endswith(b"\r"):
        return None
    return (
        "its lines end in CR LF, as on Windows, so Linux looks for a program whose name ends in "
        "CR; save it with LF line ends (dos2unix, or core.autocrlf=input in git)"
    )


def _no_program(head: bytes, path: str) -> str | None:
    if head.startswith((_ELF, _SCRIPT)):
        return None
    if head.startswith(_MARK + _SCRIPT):
        return 'begins with a byte order mark, so Linux does not see its "#!"; save it without'
    line = "#!/usr/bin/env python3" if path.endswith(".py") else "#!/bin/bash"
    return f"cannot be started: it is no program and names none; make its first line {line}"
