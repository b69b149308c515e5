"""`advcomp train` and `advcomp export` in a terminal: progress, and what to do next."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from advcomp.errors import MissingExtra
from advcomp.terminal.interrupts import INTERRUPTED
from advcomp.terminal.run_command import near
from advcomp.terminal.text import count, duration, one_line
from advcomp.training.progress import EvaluationReport, StepReport

_LINE_EVERY_S = 10.0


def train_in_terminal(file: Path, out: Path | None, model_ranks: int | None) -> int:
    """Train, show how it goes and where the result is; returns the exit code.

    Raises:
        AdvcompError: See `train`.
    """
    with _extra_at_hand():
        from advcomp.attacknet.train import train_attack_network
    display = Display(sys.stderr)
    try:
        with display:
            checkpoint = train_attack_network(file, display, out=out, model_ranks=model_ranks)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    if display.shown:
        print(f"checkpoint: {near(checkpoint)}")
        print(f"next: advcomp export {shlex.quote(str(near(checkpoint)))} DIR")
    return 0


def export_in_terminal(checkpoint: Path, folder: Path, form: str) -> None:
    """Write a submission, and say what is in it.

    Raises:
        AdvcompError: See `export_checkpoint`.
    """
    with _extra_at_hand():
        from advcomp.attacknet.export import Format, export_checkpoint
    for path in export_checkpoint(checkpoint, folder, Format(form)):
        print(near(path))
    print(f"next: advcomp validate {shlex.quote(str(near(folder.resolve())))}")


@contextmanager
def _extra_at_hand() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "advcomp":
            raise
        raise MissingExtra(
            f"{error.name} is not installed; install it with: pip install 'advcomp[train]'"
        ) from error


class Display:
    """A bar with the loss, speed and time left where `stream` is a terminal; else lines.

    What an evaluation found stands above the bar.
    """

    def __init__(self, stream: TextIO) -> None:
        self.shown = False
        self._console = Console(file=stream)
        self._live = stream.isatty()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[state]}", markup=False),
            console=self._console,
            disable=not self._live,
        )
        self._first = self._steps = self._images_a_step = 0
        self._began = self._last_line = 0.0

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Show a note."""
        self.shown = True
        self._say(one_line(text))

    def started(self, first_step: int, steps: int, images_a_step: int) -> None:
        """Begin the bar."""
        self.shown = True
        self._first, self._steps, self._images_a_step = first_step, steps, images_a_step
        self._began = self._last_line = time.monotonic()
        self._progress.start()
        self._progress.add_task("training", total=steps, completed=first_step, state="")

    def stepped(self, report: StepReport) -> None:
        """Move the bar on; where there is none, a line every few seconds."""
        state = self._state(report)
        if self._live:
            task = self._progress.tasks[-1].id
            self._progress.update(task, completed=report.step + 1, state=state)
        elif self._is_time(report):
            self._last_line = time.monotonic()
            self._say(f"[{report.step + 1}/{self._steps}] {state}")

    def evaluated(self, report: EvaluationReport) -> None:
        """A line for each classifier: the rate at every epsilon."""
        what = "led to the target" if report.targeted else "misclassified"
        for name, clean in report.clean_rates.items():
            rates = [
                f"{level}: {rate:.1%}"
                for (other, level), rate in report.rates.items()
                if other == name
            ]
            self._say(f"{name} {what} at epsilon {', '.join(rates)} (clean: {clean:.1%})")
        self._say(f"examples: {near(report.picture)}")

    def _is_time(self, report: StepReport) -> bool:
        last = report.step + 1 == self._steps
        return last or time.monotonic() - self._last_line >= _LINE_EVERY_S

    def _state(self, report: StepReport) -> str:
        done = report.step + 1 - self._first
        seconds = (time.monotonic() - self._began) / done
        parts = [
            f"loss {report.loss:.4g}",
            f"{self._images_a_step / seconds:.1f} images/s",
            f"{duration(seconds * (self._steps - report.step - 1))} left",
        ]
        if report.skipped:
            parts.append(f"{count(report.skipped, 'step')} skipped")
        return ", ".join(parts)

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
