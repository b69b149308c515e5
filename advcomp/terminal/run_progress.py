"""How a run looks while it goes on: a bar with the time left, or plain lines."""

import time
from contextlib import AbstractContextManager
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from advcomp.rules.verdict import Verdict
from advcomp.terminal.text import count, duration, one_line
from advcomp.tournament.runner import RunObserver
from advcomp.tournament.store.job_results import JobResult


class ProgressDisplay(RunObserver, AbstractContextManager["ProgressDisplay"], Protocol):
    """An observer that is shown while its `with` block lasts."""


def display_on(stream: TextIO) -> ProgressDisplay:
    """A bar where `stream` is a terminal, else a line for every job."""
    return ProgressBar(stream) if stream.isatty() else ProgressLines(stream)


class ProgressLines:
    """One line for every job: `[12/40] fgsm-eps16-0 OK 2.3 s`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._jobs = self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing to put away."""

    def note(self, text: str) -> None:
        """Show a note."""
        self._show(f"note: {one_line(text)}")

    def stage(self, title: str, jobs: int, stored: int, cost: float) -> None:
        """Show what is to do."""
        self._jobs, self._done = jobs, 0
        self._show(f"{title}: {count(jobs, 'job')} to run, {stored:,} stored")

    def finished(self, result: JobResult, cost: float) -> None:
        """Show how a job ended."""
        self._done += 1
        self._show(f"[{self._done}/{self._jobs}] {job_line(result)}")

    def _show(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class ProgressBar:
    """A bar for each stage, by cost and not by number of jobs; what failed stands above it."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[done]}/{task.fields[jobs]}"),
            TimeLeft(),
            console=Console(file=stream),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Show a note above the bar."""
        self._show(f"note: {one_line(text)}")

    def stage(self, title: str, jobs: int, stored: int, cost: float) -> None:
        """Begin a bar."""
        if jobs == 0:
            self._show(f"{title}: nothing to run, {stored:,} stored")
            return
        label = f"{title} ({stored:,} stored)" if stored else title
        self._progress.add_task(label, total=cost, done=0, jobs=jobs, ends=None)

    def finished(self, result: JobResult, cost: float) -> None:
        """Move the bar on; show what failed."""
        task = self._progress.tasks[-1]
        completed = task.completed + cost
        self._progress.update(
            task.id,
            completed=completed,
            done=task.fields["done"] + 1,
            ends=time.monotonic() + time_left(task.elapsed or 0, completed, task.total or 0),
        )
        if result.verdict is not Verdict.OK:
            self._show(job_line(result))

    def _show(self, line: str) -> None:
        self._progress.console.print(Text(line))


class TimeLeft(ProgressColumn):
    """When a stage will end, as far as can be told; counts down between jobs."""

    def render(self, task: Task) -> Text:
        """The cell of one stage."""
        if task.finished:
            return Text(f"took {duration(task.finished_time or 0)}")
        if task.fields["ends"] is None:
            return Text("time left: unknown yet")
        return Text(f"{duration(max(0, task.fields['ends'] - time.monotonic()))} left")


def time_left(elapsed_s: float, done: float, total: float) -> float:
    """Seconds until `total` is done, if it goes on as it went until `done`."""
    return elapsed_s * (total - done) / done


def job_line(result: JobResult) -> str:
    """How a job ended, in a line; with how it died and the notes where it failed."""
    line = f"{result.job} {result.verdict} {duration(result.wall_seconds)}"
    if result.verdict is Verdict.OK:
        return line
    reasons = [*ending(result), *result.notes]
    return f"{line}: {one_line('; '.join(reasons))}" if reasons else line


def ending(result: JobResult) -> list[str]:
    """How a program ended that did not end well, in words; empty where it did."""
    if result.signal is not None:
        return [f"killed by signal {result.signal}"]
    return [f"exit code {result.exit_code}"] if result.exit_code else []
