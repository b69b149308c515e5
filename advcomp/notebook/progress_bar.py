"""How a run looks in a notebook while it goes on: a bar in the cell's output, what failed below.

Drawn by the browser's own <progress>, so that it needs no widgets; it stays in the saved notebook.
"""

import sys
import time
from html import escape
from typing import Any, Self

from advcomp.rules.printable import printable
from advcomp.rules.verdict import Verdict
from advcomp.terminal.run_progress import Pace, ProgressDisplay, display_on, job_line
from advcomp.tournament.store.job_results import JobResult

AGAIN_S = 0.2
"""How often the cell is drawn anew, at most."""


def display_here() -> ProgressDisplay:
    """A bar where this process is a notebook's, else what standard error shows."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return display_on(sys.stderr) if getattr(shell, "kernel", None) is None else NotebookBar()


class NotebookBar:
    """A bar for the entries and each stage, by cost; below it what failed, and notes."""

    def __init__(self) -> None:
        self._paces: list[Pace] = []
        self._told: list[str] = []
        self._lines: list[str] = []
        self._handle: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        from IPython.display import display

        self._handle = display(_Html(""), display_id=True)
        return self

    def __exit__(self, *_error: object) -> None:
        self._draw()

    def note(self, text: str) -> None:
        """Show a note below the bars."""
        self._lines.append(f"note: {text}")
        self._draw()

    def reading(self, entries: int) -> None:
        """Begin the bar of the entries."""
        self._begin(Pace("entries", entries, entries))

    def read(self, entry: str) -> None:
        """Move the bar on."""
        self._move_on(entry, 1.0)

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        """Begin a bar."""
        if jobs == 0:
            self._lines.append(f"{title}: nothing to run, {stored:,} stored")
            self._draw()
            return
        self._begin(Pace(title, jobs, cost, later))

    def started(self, job: str) -> None:
        """Note that a job runs: shown when the cell is drawn next, for this is another thread."""
        self._paces[-1].started(job)

    def finished(self, result: JobResult, cost: float) -> None:
        """Move the bar on; show what failed."""
        if result.verdict is not Verdict.OK:
            self._lines.append(job_line(result))
        self._move_on(result.job, cost)

    def _begin(self, pace: Pace) -> None:
        self._paces.append(pace)
        self._told.append("")
        self._draw()

    def _move_on(self, name: str, cost: float) -> None:
        pace = self._paces[-1]
        pace.finished(name, cost)
        if pace.done == pace.jobs:
            self._told[-1] = pace.time_left
        if self._told[-1] or time.monotonic() - self._drawn >= AGAIN_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        rows = [
            f"<div>{escape(pace.title)} <progress max='{pace.cost}' value='{pace.cost_done}'>"
            f"</progress> {pace.done}/{pace.jobs} {escape(told or pace.time_left)}</div>"
            for pace, told in zip(self._paces, self._told, strict=True)
        ]
        lines = [*([self._paces[-1].running] if self._paces else []), *self._lines]
        rows += [f"<div>{escape(printable(line))}</div>" for line in lines if line]
        self._handle.update(_Html("".join(rows)))


class _Html:
    """What a notebook shows as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text
