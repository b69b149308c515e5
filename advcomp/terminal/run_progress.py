"""How a run looks while it goes on: a bar with the time left, or plain lines."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol, Self, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from advcomp.rules.verdict import Verdict
from advcomp.terminal.text import count, duration, one_line, whole
from advcomp.tournament.outcome.ending import ending
from advcomp.tournament.runner import RunObserver
from advcomp.tournament.store.job_results import JobResult

LINE_EVERY_S = 10.0
"""How often a line says how many entries have been read."""

MOST_RUNNING = 4
"""Jobs that run and are named; the rest is counted."""


class ProgressDisplay(RunObserver, AbstractContextManager["ProgressDisplay"], Protocol):
    """An observer that is shown while its `with` block lasts."""


def display_on(stream: TextIO) -> ProgressDisplay:
    """A bar where `stream` is a terminal, else a line for every job."""
    return ProgressBar(stream) if stream.isatty() else ProgressLines(stream)


class Pace:
    """How far a stage is, what runs in it, and when all stages will be done.

    Args:
        title: Of the stage.
        jobs: How many there are to do.
        cost: What they cost in all, in any unit.
        later: What the stages after this one will cost.
        clock: Seconds, which never go back.
    """

    def __init__(
        self,
        title: str,
        jobs: int,
        cost: float,
        later: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.jobs, self.cost = title, jobs, cost
        self.done, self.cost_done = 0, 0.0
        self._later, self._clock = later, clock
        self._began = clock()
        self._ends: float | None = None
        self._running: dict[str, float] = {}

    def started(self, job: str) -> None:
        """A job has begun; may be told from any thread."""
        self._running[job] = self._clock()

    def finished(self, job: str, cost: float) -> None:
        """A job has ended."""
        now = self._clock()
        self._running.pop(job, None)
        self.done += 1
        self.cost_done += cost
        left = self.cost - self.cost_done + self._later
        self._ends = now + (now - self._began) * left / self.cost_done

    @property
    def time_left(self) -> str:
        """Until all stages are done if it goes on as it went; counts down between jobs."""
        now = self._clock()
        if self.done == self.jobs:
            return f"took {whole(now - self._began)}"
        if self._ends is None:
            return "time left: unknown yet"
        left = self._ends - now
        if left < 0.5:
            return "longer than it seemed"
        return f"about {whole(left)} left{' in all' if self._later else ''}"

    @property
    def running(self) -> str:
        """The jobs that run, those that run longest first, and for how long."""
        now = self._clock()
        longest = sorted(self._running.copy().items(), key=lambda item: item[1])
        shown = [f"{job} {whole(now - since)}" for job, since in longest[:MOST_RUNNING]]
        if more := len(longest) - len(shown):
            shown.append(f"{more} more")
        return f"running: {', '.join(shown)}" if shown else ""


class ProgressLines:
    """One line for every job: `[12/40] fgsm-eps16-0 OK 2.3 s`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._jobs = self._done = self._read = 0
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing to put away."""

    def note(self, text: str) -> None:
        """Show a note."""
        self._show(f"note: {one_line(text)}")

    def reading(self, entries: int) -> None:
        """Count what is read from now on."""
        self._jobs, self._read, self._spoke = entries, 0, time.monotonic()

    def read(self, entry: str) -> None:
        """Show how many entries have been read, where they take long."""
        self._read += 1
        if time.monotonic() - self._spoke >= LINE_EVERY_S:
            self._show(f"entries: {self._read} of {self._jobs} read")
            self._spoke = time.monotonic()

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        """Show what is to do."""
        self._jobs, self._done = jobs, 0
        self._show(f"{title}: {count(jobs, 'job')} to run, {stored:,} stored")

    def started(self, job: str) -> None:
        """Lines are for what has ended."""

    def finished(self, result: JobResult, cost: float) -> None:
        """Show how a job ended."""
        self._done += 1
        self._show(f"[{self._done}/{self._jobs}] {job_line(result)}")

    def _show(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class ProgressBar:
    """A bar for the entries and each stage, by cost and not by number of jobs.

    Below stands what runs and for how long, above what failed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._bars = _Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[pace].done}/{task.fields[pace].jobs}"),
            _TimeLeft(),
            console=Console(file=stream),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Show a note above the bar."""
        self._show(f"note: {one_line(text)}")

    def reading(self, entries: int) -> None:
        """Begin the bar of the entries."""
        self._begin("entries", Pace("entries", entries, entries))

    def read(self, entry: str) -> None:
        """Move the bar on."""
        self._move_on(entry, 1.0)

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        """Begin a bar."""
        if jobs == 0:
            self._show(f"{title}: nothing to run, {stored:,} stored")
            return
        label = f"{title} ({stored:,} stored)" if stored else title
        self._begin(label, Pace(title, jobs, cost, later))

    def started(self, job: str) -> None:
        """Show that a job runs."""
        self._pace.started(job)

    def finished(self, result: JobResult, cost: float) -> None:
        """Move the bar on; show what failed."""
        self._move_on(result.job, cost)
        if result.verdict is not Verdict.OK:
            self._show(job_line(result))

    @property
    def _pace(self) -> Pace:
        pace: Pace = self._bars.tasks[-1].fields["pace"]
        return pace

    def _begin(self, label: str, pace: Pace) -> None:
        self._bars.add_task(label, total=pace.cost, pace=pace, told="")

    def _move_on(self, name: str, cost: float) -> None:
        pace = self._pace
        pace.finished(name, cost)
        told = pace.time_left if pace.done == pace.jobs else ""
        self._bars.update(self._bars.tasks[-1].id, completed=pace.cost_done, told=told)

    def _show(self, line: str) -> None:
        self._bars.console.print(Text(line))


class _Bars(Progress):
    """Bars, and the jobs that run below them."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.tasks and (running := self.tasks[-1].fields["pace"].running):
            yield Text(one_line(running), style="dim")


class _TimeLeft(ProgressColumn):
    """When all will end, as far as can be told; of a stage that ended, what it took."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["told"] or task.fields["pace"].time_left)


def job_line(result: JobResult) -> str:
    """How a job ended, in a line; with how it died and the notes where it failed."""
    line = f"{result.job} {result.verdict} {duration(result.wall_seconds)}"
    if result.verdict is Verdict.OK:
        return line
    reasons = [*ending(result), *result.notes]
    return f"{line}: {one_line('; '.join(reasons))}" if reasons else line
