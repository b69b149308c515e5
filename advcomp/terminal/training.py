"""`advcomp train` and `advcomp export` in a terminal: progress, and what to do next."""

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from advcomp.errors import INTERRUPTED, InvalidConfig
from advcomp.rules.toml_file import read_toml_text, toml_tables
from advcomp.terminal.extras import extra_at_hand
from advcomp.terminal.run_command import near
from advcomp.terminal.text import count, one_line, whole
from advcomp.training.heap import keep_freed_memory
from advcomp.training.progress import HINT_ALONE, EvaluationReport, StepReport

_LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What `advcomp train` was given; None and empty where nothing."""

    names: tuple[str, ...]
    out: Path | None
    source: Path | None
    device: str | None
    model_ranks: int | None
    init: Path | None
    evaluate: bool


def train_in_terminal(file: Path, options: TrainOptions) -> int:
    """Train what a recipe says, show how it goes and where the result is; the exit code.

    Raises:
        AdvcompError: See `train_attack_network`, `train_classifiers` and `train_denoisers`.
    """
    keep_freed_memory()
    display = Display(sys.stderr)
    train = {"classifier": _train_players, "denoiser": _train_players}.get(
        kind := _kind_of(file), _train_network
    )
    with display, extra_at_hand("train"):
        finished = train(kind, file, options, display)
    if not finished:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return 0


def _kind_of(file: Path) -> str:
    """Which tables the recipe has; whoever reads it says what is wrong with it."""
    try:
        tables = toml_tables(file, read_toml_text(file))
    except InvalidConfig:
        return ""
    return next((kind for kind in ("classifier", "denoiser") if kind in tables), "")


def _train_network(_kind: str, file: Path, options: TrainOptions, display: "Display") -> bool:
    from advcomp.attacknet.train import train_attack_network

    _refuse(
        file,
        "an attack network",
        NAME=options.names,
        **{"--source": options.source, "--device": options.device, "--evaluate": options.evaluate},
    )
    trained = train_attack_network(
        file, display, out=options.out, model_ranks=options.model_ranks, init=options.init
    )
    if display.shown and not trained.interrupted:
        print(f"checkpoint: {near(trained.checkpoint)}")
        print(f"next: advcomp export {shlex.quote(str(near(trained.checkpoint)))} DIR")
    return not trained.interrupted


def _train_players(kind: str, file: Path, options: TrainOptions, display: "Display") -> bool:
    from advcomp.players.classifier.train_classifier import train_classifiers
    from advcomp.players.defense.train_denoiser import train_denoisers
    from advcomp.players.fitting.order import TrainingOrder

    _refuse(file, f"a {kind}", **{"--model-ranks": options.model_ranks, "--init": options.init})
    order = TrainingOrder(
        recipe=file,
        names=options.names,
        source=options.source,
        device=options.device or "auto",
        out=options.out,
        evaluate=options.evaluate,
    )
    train = train_classifiers if kind == "classifier" else train_denoisers
    return train(order, display, partial(print, flush=True))


def _refuse(file: Path, kind: str, **given: object) -> None:
    if useless := [name for name, value in given.items() if value]:
        raise InvalidConfig(f"{file}: the recipe of {kind} takes no {', '.join(useless)}")


def export_in_terminal(checkpoint: Path, folder: Path, form: str) -> None:
    """Write a submission, and say what is in it.

    Raises:
        AdvcompError: See `export_checkpoint`.
    """
    with extra_at_hand("train"):
        from advcomp.attacknet.export import Format, export_checkpoint
    exported = export_checkpoint(checkpoint, folder, Format(form))
    for path in exported.files:
        print(near(path))
    # As onnx it takes images of one size only.
    size = "" if form != Format.ONNX else " --size {}x{}".format(*exported.image_size)
    print(f"next: advcomp validate{size} {shlex.quote(str(near(folder.resolve())))}")


class Display:
    """A bar with the loss, speed and time left where `stream` is a terminal; else lines.

    What an evaluation found stands above the bar.
    """

    def __init__(self, stream: TextIO) -> None:
        self.shown = False
        self._name = ""
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

    def started(self, name: str, first_step: int, steps: int, images_a_step: int) -> None:
        """Begin the bar."""
        self.shown = True
        self._name = name
        self._first, self._steps, self._images_a_step = first_step, steps, images_a_step
        self._began = self._last_line = time.monotonic()
        self._progress.start()
        self._progress.add_task(name, total=steps, completed=first_step, state="")

    def stepped(self, report: StepReport) -> None:
        """Move the bar on; where there is none, a line every few seconds."""
        state = self._state(report)
        if self._live:
            task = self._progress.tasks[-1].id
            self._progress.update(task, completed=report.step + 1, state=state)
        elif self._is_time(report):
            self._last_line = time.monotonic()
            self._say(f"{self._name}: [{report.step + 1}/{self._steps}] {state}")

    def evaluated(self, report: EvaluationReport) -> None:
        """A line for each classifier: the rate at every epsilon; then how far ahead that is."""
        for name, clean in report.clean_rates.items():
            rates = [
                f"{level}: {rate:.1%}"
                for (other, level), rate in report.rates.items()
                if other == name
            ]
            self._say(f"{name} {report.of} at epsilon {', '.join(rates)} (clean: {clean:.1%})")
        for line in _compared(report):
            self._say(line)
        if report.picture is not None:
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
            f"{whole(seconds * (self._steps - report.step - 1))} left",
        ]
        if report.skipped:
            parts.append(f"{count(report.skipped, 'step')} skipped")
        return ", ".join(parts)

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _compared(report: EvaluationReport) -> Iterator[str]:
    """A line for each other attack and classifier: its rate, and the gap with its interval."""
    lines: dict[tuple[str, str], list[str]] = {}
    for (rival, name, level), gap in report.gaps.items():
        low, high = (f"{100 * edge:+.1f}" for edge in gap.interval)
        lines.setdefault((rival, name), []).append(
            f"{level}: {gap.rate:.1%}, {100 * gap.gap:+.1f} [{low}, {high}]"
        )
    for (rival, name), cells in lines.items():
        yield f"{name}: {rival}, and the network ahead by [95 %] at epsilon {'; '.join(cells)}"
    alone = [gap for (rival, _, _), gap in report.gaps.items() if rival == HINT_ALONE]
    if alone and all(gap.interval[0] <= 0 for gap in alone):
        yield "the network is nowhere ahead of its hint alone: it adds nothing that can be seen"
