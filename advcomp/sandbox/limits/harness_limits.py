"""What a harness inherits from whoever started it, and passes on to every box: limits and signals.

A limit that is too low would end a submission's run, or ours, in ways that look like the
submission's fault or the sandbox's. So each is raised up to the hard limit, and a sandbox is
refused where that is not enough: before anything runs, and by the limit's own name.
"""

import os
import resource
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import Limits

__all__ = ["FILES", "FILES_OF_A_BOX", "fit_for_boxes"]

FILES = 64
"""Descriptors of the harness itself: its results, its log, an engine's client."""
FILES_OF_A_BOX = 64
"""Descriptors of one run: pipes, folders that are held, files for the box, and the same again for
the box that decodes its images."""
STACK_BYTES = 8 << 20
"""What systems give by default, and programs are built for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """One limit. `needed` is None where only no limit at all is enough."""

    number: int
    name: str
    option: str
    needed: int | None


def fit_for_boxes(boxes: int, limits: Limits | None = None) -> None:
    """Make what this process inherited fit for so many boxes at once.

    Args:
        boxes: How many run at once, at most.
        limits: Of each of them; None where no submission runs.

    Raises:
        SandboxUnavailable: All limits that are too low and may not be raised.
    """
    if threading.current_thread() is threading.main_thread():
        # Who ignores it is never told how a child ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    problems = [problem for need in _needs(boxes, limits) if (problem := _raised(need))]
    if problems:
        raise SandboxUnavailable(
            *problems, "remedy: raise them where this shell, service or batch job gets its limits"
        )


def _needs(boxes: int, limits: Limits | None) -> Iterator[_Need]:
    files = FILES + FILES_OF_A_BOX * boxes
    yield _Need(number=resource.RLIMIT_NOFILE, name="open files", option="-n", needed=files)
    yield _Need(number=resource.RLIMIT_CPU, name="CPU seconds", option="-t", needed=None)
    yield _Need(number=resource.RLIMIT_AS, name="address space", option="-v", needed=None)
    yield _Need(number=resource.RLIMIT_DATA, name="data segment", option="-d", needed=None)
    yield _Need(number=resource.RLIMIT_STACK, name="stack", option="-s", needed=STACK_BYTES)
    if limits is None:
        return
    # A file is at most as large as the output folder and the entry, which is in memory, together.
    largest = limits.output_bytes + limits.memory_bytes
    yield _Need(number=resource.RLIMIT_FSIZE, name="file size", option="-f", needed=largest)
    # Counted per uid: root gives each box one of its own, an ordinary user's share that user's.
    sharing = 1 if os.geteuid() == 0 else boxes
    processes = limits.pids * sharing
    yield _Need(number=resource.RLIMIT_NPROC, name="processes", option="-u", needed=processes)


def _raised(need: _Need) -> str | None:
    """Raise a limit as far as may be; what is wrong where that is not enough."""
    soft, hard = resource.getrlimit(need.number)
    if _suffices(soft, need.needed):
        return None
    if _suffices(hard, need.needed):
        resource.setrlimit(need.number, (hard if need.needed is None else need.needed, hard))
        return None
    expected = "no limit" if need.needed is None else f"at least {need.needed}"
    return (
        f"ulimit {need.option} ({need.name}): expected {expected}, got {hard}; boxes inherit it, "
        "and what it stops would look like a submission's fault"
    )


def _suffices(limit: int, needed: int | None) -> bool:
    return limit == resource.RLIM_INFINITY or (needed is not None and limit >= needed)
