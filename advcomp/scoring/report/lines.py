"""The chart of score against budget, with the best entries in colour and named at their ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from advcomp.rules.verdict import Verdict
from advcomp.scoring.report.axes import FLOOR, LEFT, WIDTH, Label, Scale, Tick, score_axis, short
from advcomp.scoring.report.boards import Board, BoardRow
from advcomp.scoring.report.wording import rate
from advcomp.scoring.standings import Standings

SERIES = 7
"""Colours and markers; further lines are grey."""

_LABELS = 124
"""Width of the margin in which lines are named."""

_LINE_HEIGHT = 12.5
_MOST_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An entry.

    Args:
        told: All that the line says, in words.
        series: Number of its colour and marker; None for a line that stays grey.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    told: str
    own: bool
    series: int | None = None
    label: Label | None = None

    @property
    def path(self) -> str:
        """The line as the data of an SVG path."""
        return "M" + "L".join(f"{x} {y}" for x, y in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The chart of one track; `right` is where its axis ends."""

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    right: float = WIDTH - _LABELS


def lines(standings: Standings, board: Board) -> Lines:
    """Draw the entries of a track that ran, the best first."""
    budgets: list[int] = standings.scores.tallies.max_epsilons.tolist()
    x = Scale(budgets[0], budgets[-1], LEFT + 8, WIDTH - _LABELS - 8)
    scores = _scores(standings)
    drawn = [
        row
        for row in board.rows
        if scores[row.row.submission] and row.row.verdict != Verdict.REJECTED
    ]
    y, y_ticks = score_axis(score for row in drawn for _, score in scores[row.row.submission])
    every = math.ceil(len(budgets) / _MOST_TICKS)
    return Lines(
        title=board.title,
        x_ticks=tuple(Tick(at=x(budget), text=str(budget)) for budget in budgets[::every]),
        y_ticks=y_ticks,
        lines=tuple(_named([_line(row, scores[row.row.submission], x, y) for row in drawn])),
    )


def _scores(standings: Standings) -> dict[str, list[tuple[int, float]]]:
    """(max_epsilon, score) by entry, where there is a score."""
    return {
        entry.entry.name: [
            (epsilon.max_epsilon, score)
            for epsilon in entry.epsilons
            if (score := standings.options.absence.plain(epsilon.score)) is not None
        ]
        for entry in standings.scores.entries
    }


def _line(row: BoardRow, scores: Sequence[tuple[int, float]], x: Scale, y: Scale) -> Line:
    figures = ", ".join(f"{rate(score)} at {budget}" for budget, score in scores)
    return Line(
        name=row.row.submission,
        points=tuple((x(budget), y(score)) for budget, score in scores),
        told=f"{row.row.submission}: {figures}",
        own=row.own,
    )


def _named(drawn: Sequence[Line]) -> list[Line]:
    """Colour and name the own line and the best; names are moved apart until none meet."""
    others = [line for line in drawn if not line.own]
    chosen = [*(line for line in drawn if line.own), *others][:SERIES]
    series = {line.name: i for i, line in enumerate(line for line in drawn if line in chosen)}
    chosen.sort(key=lambda line: line.points[-1][1])
    heights = _spread([line.points[-1][1] for line in chosen])
    labels = {
        line.name: Label(x=WIDTH - _LABELS + 8, y=height, anchor="start", text=short(line.name))
        for line, height in zip(chosen, heights, strict=True)
    }
    return [
        replace(line, series=series.get(line.name), label=labels.get(line.name)) for line in drawn
    ]


def _spread(heights: Sequence[float]) -> list[float]:
    """Ascending heights moved apart to the height of a line of text, and kept above the floor."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, spread[-1] + _LINE_HEIGHT) if spread else height)
    lowest = float(FLOOR)
    for i in reversed(range(len(spread))):
        spread[i] = min(spread[i], lowest)
        lowest = spread[i] - _LINE_HEIGHT
    return [round(height, 2) for height in spread]
