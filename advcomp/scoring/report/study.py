"""A study of settings as one HTML file, in the report's dress: what was tried, what it was worth.

Its charts are the report's own: the worth of trials in their order, or against each other where
there are two objectives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from advcomp.scoring.report.axes import (
    FLOOR,
    Label,
    Scale,
    Tick,
    number_axis,
    score_axis,
)
from advcomp.scoring.report.page import page_parts, page_templates

FIGURES = 4
"""Significant digits of what is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial.

    Args:
        values: What it is worth, one for each objective; empty where it did not come to its end.
        so_far: What it met, in words.
        settings: Its values of the space, by name.
        counts: Whether it may be best.
    """

    number: int
    state: str
    values: tuple[float, ...] = ()
    so_far: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    counts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyMaterial:
    """All that a study's page shows.

    Args:
        subject: What was tuned, in words.
        objectives, maximised: What trials were judged by, and whether more of it is better.
        opponents: Whom they met.
        best: Numbers of the best trial, or of the Pareto front.
        importances: Name of a value -> its share of what makes trials good; empty where unknown.
        final: What meeting those held out gave, in words.
    """

    name: str
    subject: str
    objectives: tuple[str, ...]
    maximised: tuple[bool, ...]
    opponents: tuple[str, ...]
    trials: tuple[TrialRow, ...]
    best: tuple[int, ...]
    importances: Mapping[str, float]
    final: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A trial in a chart."""

    x: float
    y: float
    told: str
    best: bool
    label: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyChart:
    """Trials by their worth.

    Args:
        stairs: The path of the best so far, or of the Pareto front.
        words: All of it, in words.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    stairs: str
    words: str


def study_page(material: StudyMaterial) -> str:
    """The page of a study as HTML; the same material, the same bytes."""
    ended = [trial for trial in material.trials if trial.values]
    two = len(material.objectives) == 2
    chart = None if not ended else (front if two else history)(material, ended)
    names = list(dict.fromkeys(name for trial in material.trials for name in trial.settings))
    most = max(material.importances.values(), default=0.0)
    shares = {
        name: (share, 100 * share / most if most else 0.0)
        for name, share in sorted(material.importances.items(), key=lambda item: -item[1])
    }
    return (
        page_templates()
        .get_template("study.html")
        .render(
            study=material,
            chart=chart,
            names=names,
            shares=shares,
            shown=shown,
            **page_parts(),
        )
    )


def history(material: StudyMaterial, ended: Sequence[TrialRow]) -> StudyChart:
    """The worth of the trials in their order, and the best so far."""
    x, x_ticks = number_axis([trial.number for trial in material.trials])
    y, y_ticks = score_axis(trial.values[0] for trial in ended)
    better = max if material.maximised[0] else min
    so_far: list[tuple[float, float]] = []
    best: float | None = None
    for trial in ended:
        if trial.counts:
            best = trial.values[0] if best is None else better(best, trial.values[0])
            so_far.append((x(trial.number), y(best)))
    stairs = "".join(
        f"M{px} {py}" if i == 0 else f"H{px}V{py}" for i, (px, py) in enumerate(so_far)
    )
    return StudyChart(
        title="Trials in their order",
        x_title="trial",
        y_title=material.objectives[0],
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        dots=tuple(_dots(material, ended, x, y, lambda trial: (trial.number, trial.values[0]))),
        stairs=stairs,
        words=_words(material),
    )


def front(material: StudyMaterial, ended: Sequence[TrialRow]) -> StudyChart:
    """The first objective against the second, with the Pareto front."""
    x, x_ticks = number_axis([trial.values[1] for trial in ended])
    y, y_ticks = score_axis(trial.values[0] for trial in ended)
    on_front = sorted(
        (trial.values[1], trial.values[0]) for trial in ended if trial.number in material.best
    )
    path = [f"{x(second)} {y(first)}" for second, first in on_front]
    return StudyChart(
        title="The Pareto front",
        x_title=material.objectives[1],
        y_title=material.objectives[0],
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        dots=tuple(_dots(material, ended, x, y, lambda t: (t.values[1], t.values[0]))),
        stairs="M" + "L".join(path) if path else "",
        words=_words(material),
    )


def _dots(
    material: StudyMaterial,
    ended: Sequence[TrialRow],
    x: Scale,
    y: Scale,
    place: Callable[[TrialRow], tuple[float, float]],
) -> Iterator[Dot]:
    for trial in ended:
        across, up = place(trial)
        best = trial.number in material.best
        px, py = x(across), y(up)
        above = py > FLOOR / 2
        label = Label(x=px, y=py + (-9 if above else 16), anchor="middle", text=str(trial.number))
        yield Dot(
            x=px, y=py, told=_told(material, trial), best=best, label=label if best else None
        )


def _told(material: StudyMaterial, trial: TrialRow) -> str:
    worth = ", ".join(
        f"{name} {shown(value)}"
        for name, value in zip(material.objectives, trial.values, strict=True)
    )
    settings = ", ".join(f"{name} = {shown(value)}" for name, value in trial.settings.items())
    return f"trial {trial.number}: {worth}; {settings}"


def _words(material: StudyMaterial) -> str:
    best = [trial for trial in material.trials if trial.number in material.best]
    return "Best: " + "; ".join(_told(material, trial) for trial in best) if best else "None yet."


def shown(value: object) -> str:
    """A value as the page shows it."""
    return f"{value:.{FIGURES}g}" if isinstance(value, float) else str(value)
