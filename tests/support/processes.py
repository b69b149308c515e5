"""Processes of this machine, looked at while they come and go."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def text_of(pid: int, name: str) -> str:
    """The file `name` of a process in /proc; empty when the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / name).read_bytes().decode(errors="replace")
    return ""


def command_line(pid: int) -> str:
    """Arguments parted by NUL; empty when the process is gone."""
    return text_of(pid, "cmdline")


def processes(token: str) -> list[int]:
    """Those with `token` in their command line, but for this one."""
    others = (int(folder.name) for folder in PROC.glob("[0-9]*"))
    return [pid for pid in others if pid != os.getpid() and token in command_line(pid)]


def command_lines() -> Iterator[str]:
    """The command line of every process, arguments parted by spaces."""
    for folder in PROC.glob("[0-9]*"):
        yield command_line(int(folder.name)).replace("\0", " ").strip()


def children(pid: int) -> list[int]:
    """Those that any thread of a process has started and that still are."""
    found: list[int] = []
    for file in (PROC / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, file.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(deeper for child in children(pid) for deeper in descendants(child))]
