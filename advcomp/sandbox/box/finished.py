"""What every backend does alike before a run and after it."""

import signal
from pathlib import Path
from typing import Protocol, Self

from advcomp.sandbox.base import OutputFolder, RunResult, RunSpec
from advcomp.sandbox.box.capture import Log, Stream
from advcomp.sandbox.box.held import EmptyFolder, HeldFolder
from advcomp.sandbox.box.process import Ending
from advcomp.sandbox.limits.cgroups import Usage

__all__ = ["FinishedRun", "finished", "input_problems", "no_room_for_the_entry", "stream_of"]


class KeptSpec(OutputFolder, Protocol):
    """An output folder that takes room until it is closed."""

    def close(self) -> None: ...


class FinishedRun:
    """A run whose processes are all dead; a `Run`. Closing it frees its output."""

    def __init__(self, result: RunResult, output: KeptSpec) -> None:
        self.result = result
        self._output = output

    @property
    def output(self) -> OutputFolder:
        """What it left in its output folder."""
        return self._output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._output.close()


def finished(
    ending: Ending,
    usage: Usage,
    output: HeldFolder | EmptyFolder,
    log: Log,
    stdout: Stream | None,
    *,
    disk_full: bool,
) -> FinishedRun:
    """A run, all processes of which are dead."""
    kept, dropped = log.close()
    overflow = stdout is not None and stdout.overflowed
    notes = [ending.killed] if ending.killed else []
    if usage.oom_kills and not ending.killed:
        notes.append(f"{usage.oom_kills} of its processes killed for memory")
    if overflow:
        notes.append("standard output went on beyond its cap")
    result = RunResult(
        exit_code=ending.exit_code,
        signal=ending.signal,
        wall_s=ending.wall_s,
        max_rss_bytes=usage.peak_bytes,
        cpu_s=usage.cpu_s,
        timed_out=ending.timed_out,
        oom_killed=usage.oom_kills > 0,
        disk_full=disk_full,
        output_full=overflow or output.is_full(),
        log=kept,
        log_dropped_bytes=dropped,
        notes=tuple(notes),
    )
    return FinishedRun(result, output)


def no_room_for_the_entry(usage: Usage) -> FinishedRun:
    """The result of an entry whose copy alone is more than its memory."""
    result = RunResult(
        exit_code=None,
        signal=signal.SIGKILL.value,
        wall_s=0.0,
        max_rss_bytes=usage.peak_bytes,
        oom_killed=True,
        notes=("the entry itself does not fit into the memory limit",),
    )
    return FinishedRun(result, EmptyFolder())


def stream_of(spec: RunSpec) -> Stream | None:
    """Where standard output goes, if not to the log."""
    return None if spec.stdout_fd is None else Stream(spec.stdout_fd, spec.limits.output_bytes)


def input_problems(spec: RunSpec, *, strangers: bool) -> list[str]:
    """What is wrong with the inputs of a run.

    Args:
        strangers: Whether the box has a uid that owns nothing.
    """
    problems = []
    for inside, outside in spec.inputs.items():
        if not outside.exists():
            problems.append(f"{outside}: expected an input for {inside}, found nothing")
        elif strangers and not _readable_by_all(outside):
            problems.append(
                f"{outside}: the box's own uid cannot read it; give others read permission"
            )
    return problems


def _readable_by_all(path: Path) -> bool:
    wanted = 0o005 if path.is_dir() else 0o004
    return path.stat().st_mode & wanted == wanted
