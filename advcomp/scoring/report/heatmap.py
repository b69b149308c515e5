"""Every attack against every defense: how often it won, in all and per budget."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import MISSING
from advcomp.scoring.scores import EntryScore
from advcomp.scoring.standings import Standings

LEVELS = 20
"""Steps of the colour scale between never and always."""


MOST_COLUMNS, MOST_ROWS = 24, 40
"""Of a map that has numbers in its cells and a table for each budget; a larger one is dense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """An entry at the head of a row or a column."""

    name: str
    targeted: bool
    complete: bool
    own: bool
    team: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatCell:
    """How often an attack won against a defense: percent, colour; None where there is no answer.

    Args:
        counted: Whether it counts in the score of either.
    """

    percent: int | None
    level: int
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatRow:
    """A defense, its errors on clean images and its cells."""

    defense: Heading
    clean: HeatCell
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """One table; `max_epsilon` is None for all budgets together."""

    max_epsilon: int | None
    attacks: tuple[Heading, ...]
    rows: tuple[HeatRow, ...]

    @property
    def dense(self) -> bool:
        """Whether it is too large for numbers, and for a table of its own at every budget."""
        return len(self.attacks) > MOST_COLUMNS or len(self.rows) > MOST_ROWS

    @property
    def figures(self) -> str:
        """The percents of all cells, row after row, as the page's script reads them."""
        percents = (cell.percent for row in self.rows for cell in row.cells)
        return ",".join("" if percent is None else str(percent) for percent in percents)


def heatmaps(standings: Standings, own: str | None = None) -> tuple[Heatmap, ...]:
    """The heat map in all, then per budget where there are several; best entries first.

    Args:
        own: The only entry whose row or column is shown, if given.
    """
    budgets: list[int] = standings.scores.tallies.max_epsilons.tolist()
    each = list(enumerate(budgets)) if len(budgets) > 1 else []
    return (
        _heatmap(standings, slice(None), None, own),
        *(_heatmap(standings, slice(i, i + 1), budget, own) for i, budget in each),
    )


def _heatmap(
    standings: Standings, budgets: slice, max_epsilon: int | None, own: str | None
) -> Heatmap:
    counts = standings.scores.tallies.scored_labels
    correct, error, hit = (
        matrix[budgets].sum(axis=0) for matrix in (counts.correct, counts.error, counts.hit)
    )
    attacks, defenses = standings.scores.attacks, standings.scores.defenses
    counted = standings.scores.attack_opponents.T | standings.scores.defense_opponents
    targeted = np.array([_is_targeted(attack) for attack in attacks], dtype=bool)
    percents = _percents(np.where(targeted, hit, error), correct + error)
    clean = _clean_percents(standings)
    columns = _shown(attacks, own)
    return Heatmap(
        max_epsilon=max_epsilon,
        attacks=tuple(_heading(attacks[a], own) for a in columns),
        rows=tuple(
            HeatRow(
                defense=_heading(defenses[d], own),
                clean=_cell(clean[d], counted=True),
                cells=tuple(_cell(percents[d, a], counted=bool(counted[d, a])) for a in columns),
            )
            for d in _shown(defenses, own)
        ),
    )


def _percents(wins: NDArray[np.int64], answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Wins in percent of the answers; NaN where there is none."""
    shares = np.full(wins.shape, np.nan)
    np.divide(100 * wins, answers, out=shares, where=answers > 0)
    return shares


def _clean_percents(standings: Standings) -> NDArray[np.float64]:
    results = standings.results
    answers = results.clean_predictions[:, ~results.infra_images]
    given = answers != MISSING
    wrong = given & (answers != results.labels[~results.infra_images])
    return _percents(wrong.sum(axis=1), given.sum(axis=1))


def _shown(entries: tuple[EntryScore, ...], own: str | None) -> list[int]:
    """Indices of the entries of one side: all that ran, by rank, or only the own one."""
    names = [score.entry.name for score in entries]
    if own in names:
        return [names.index(own)]
    return sorted(
        (i for i, score in enumerate(entries) if score.entry.verdict is not Verdict.REJECTED),
        key=lambda i: (_is_targeted(entries[i]), entries[i].rank or len(entries) + 1, names[i]),
    )


def _is_targeted(score: EntryScore) -> bool:
    return score.entry.type is SubmissionType.TARGETED_ATTACK


def _heading(score: EntryScore, own: str | None) -> Heading:
    return Heading(
        name=score.entry.name,
        targeted=_is_targeted(score),
        complete=score.complete,
        team=score.entry.team,
        own=score.entry.name == own,
    )


def _cell(percent: float, *, counted: bool) -> HeatCell:
    if np.isnan(percent):
        return HeatCell(percent=None, level=0, counted=counted)
    return HeatCell(percent=round(percent), level=round(percent * LEVELS / 100), counted=counted)
