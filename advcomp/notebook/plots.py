"""A run's figures: who beats whom, what it costs, and what a larger budget brings.

Drawn without pyplot, so no figure stays in memory and no backend matters: a notebook shows what a
cell returns, and `figure.savefig("name.pdf")` keeps it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advcomp.notebook.frames import Quantity
from advcomp.rules.submission_type import SubmissionType

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from advcomp.notebook.run import Run

__all__ = ["Chart", "Plots"]

MOST_NUMBERS = 400
"""Cells of a heat map that are also written as numbers."""

MOST_NAMES = 20
"""Entries that are named in a chart; of more only the best are."""

COLOURS = "YlGnBu"
"""Runs evenly in lightness, so that it reads without any sense of colour."""


class Chart(Figure):
    """A figure of matplotlib that a notebook shows as a picture."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=110)
        return content.getvalue()


@dataclass(frozen=True)
class Plots:
    """The figures of a run: `run.plot.heatmap()`, `run.plot.cost()`, `run.plot.budget()`."""

    run: Run

    def heatmap(
        self, quantity: str = Quantity.MISCLASSIFICATION, max_epsilon: int | None = None
    ) -> Chart:
        """Every attack (columns) against every defense (rows), the best entries first.

        Args:
            quantity: What a cell holds; see `Run.matrix`.
            max_epsilon: At this budget alone, in pixel levels; None: over all.

        Raises:
            InvalidConfig: As `Run.matrix`.
        """
        rates = self.run.matrix(quantity, max_epsilon)
        order = self.run.leaderboard()["submission"]
        rates = rates.loc[
            [name for name in order if name in rates.index],
            [name for name in order if name in rates.columns],
        ]
        rows, columns = rates.shape
        size = (max(4.0, 0.3 * columns + 2.2), max(2.5, 0.26 * rows + 1.8))
        figure, axes = _figure(*np.minimum(size, 24))
        if rates.size:  # else one side has no entry
            drawn = axes.imshow(rates.to_numpy(), vmin=0, vmax=1, cmap=COLOURS, aspect="auto")
            figure.colorbar(drawn, label=f"{quantity} rate")
        small = 8 if max(rows, columns) <= 60 else 4
        axes.set_xticks(range(columns), rates.columns, rotation=90, fontsize=small)
        axes.set_yticks(range(rows), rates.index, fontsize=small)
        if rates.size <= MOST_NUMBERS:
            _write_numbers(axes, rates)
        axes.set_title("all budgets" if max_epsilon is None else f"max_epsilon {max_epsilon}")
        return figure

    def cost(self, track: str = SubmissionType.ATTACK) -> Chart:
        """Score against seconds per 100 images, with the Pareto front; complete entries only.

        Args:
            track: `attack`, `targeted_attack` or `defense`.

        Raises:
            InvalidConfig: There is no such track.
        """
        rows = self.run.leaderboard(track)
        rows = rows[rows["rank"].notna() & rows["median_seconds_per_100_images"].notna()]
        seconds = rows["median_seconds_per_100_images"].to_numpy(dtype=float)
        scores = rows["score"].to_numpy(dtype=float)
        figure, axes = _figure(7, 4.5)
        axes.scatter(seconds, scores, color="#0060a0", zorder=3)
        for x, low, high in zip(seconds, rows["score_low"], rows["score_high"], strict=True):
            if not pd.isna(low):
                axes.plot([x, x], [low, high], color="#5a626b", linewidth=1)
        if len(rows):
            by_time = np.lexsort((-scores, seconds))
            best = list(accumulate(scores[by_time].tolist(), max))
            axes.step(seconds[by_time], best, where="post", color="#b84a00")
            axes.set_xscale("log")
        for name, x, y in list(zip(rows["submission"], seconds, scores, strict=True))[:MOST_NAMES]:
            axes.annotate(name, (x, y), (4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel("median seconds per 100 images, start-up included")
        axes.set_ylabel("score")
        axes.set_title(_title(track))
        return figure

    def budget(self, track: str = SubmissionType.ATTACK) -> Chart:
        """Score against max_epsilon, a line for each entry, the best first.

        Args:
            track: `attack`, `targeted_attack` or `defense`.

        Raises:
            InvalidConfig: There is no such track.
        """
        scores = self.run.budgets(track)
        figure, axes = _figure(7, 4.5)
        for number, (name, rows) in enumerate(scores.groupby("submission", sort=False)):
            budgets = rows["max_epsilon"].to_numpy(dtype=float)
            values = rows["score"].to_numpy(dtype=float)
            if number < MOST_NAMES:
                axes.plot(budgets, values, marker="o", markersize=4, label=str(name))
            else:
                axes.plot(budgets, values, color="#c8ccd0", linewidth=0.8, zorder=1)
        if len(scores):
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axes.set_xlabel("max_epsilon in pixel levels")
        axes.set_ylabel("score")
        axes.set_title(_title(track))
        return figure


def _figure(width: float, height: float) -> tuple[Chart, Axes]:
    figure = Chart(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _write_numbers(axes: Axes, rates: pd.DataFrame) -> None:
    for (row, column), rate in np.ndenumerate(rates.to_numpy()):
        if not np.isnan(rate):
            ink = "white" if rate > 0.6 else "black"
            text = f"{100 * rate:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7)


def _title(track: str) -> str:
    return f"{track.replace('_', ' ')}s"
