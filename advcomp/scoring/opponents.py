"""Whom an entry is scored on, how much each of them weighs, and what own pairs are taken to be.

`entries` is the rule of 2017: every opponent weighs one, and pairs of one team are left out. A
team can bend it: what its own entries do not meet changes the opponents of everybody else. A team
with a weak attack enters copies of the strongest defense; all attacks but its own fall.

`teams` judges all entries of a track on the same opponents. Entries of one team share the weight
of one. A pair of one team is never played for a score, so it is *estimated*, by the additive
two-way model of the rates that were played: rate = entry effect + opponent effect (least-squares
means; Searle, Speed and Milliken 1980). Pairs weigh in the fit as their entries do as opponents:
1 over the size of the team on that side, on both sides. There is one fit for each quantity that is
scored (misclassification, hits, correct answers) and each budget, over the entries that score
others; an estimate is cut to [0, 1]. Where the pairs that were played do not connect an entry with
an opponent (two teams of one attack and one defense), nothing is estimated: the pair is left out.

The fit needs no single rate but only sums of them. With m the pairs that were played, u and w the
weights of rows and columns, S_i = sum_j m w R the sums of the rows, T_j = sum_i m u R those of the
columns over the rows that score others, and W_i = sum_j m w, the column effects solve

    diag(w) (diag(sum_i m u) - m^T diag(u / W) m diag(w)) b = w (T - m^T (u S / W))

up to a constant, and an estimate is (S_i - sum_j m w b) / W_i + b_j. So a bootstrap, which
resamples S and T, fits again in every resample at the cost of a product of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import lcm

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.results import Entry

__all__ = ["DECIMALS", "Fit", "Opponents", "own_pairs", "team_weights"]

DECIMALS = 9
"""Estimates are rounded so: equal ones are equal, whatever the order of additions."""

Matrix = NDArray[np.float64]


class Opponents(StrEnum):
    """How opponents weigh, and what a team's own pairs are."""

    TEAMS = "teams"
    ENTRIES = "entries"


def team_weights(
    entries: Sequence[Entry], scoring: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """How much each of n entries weighs as an opponent, and what one of a team of its own weighs.

    Entries of a team share one weight; without a team an entry is one. Whole numbers, so that
    scores stay exact.

    Args:
        entries: The opponents.
        scoring: bool (n,), which of them score others; the rest weigh 0.
    """
    team = [entry.team if entry.team is not None else (i,) for i, entry in enumerate(entries)]
    sizes = dict.fromkeys(team, 0)
    for name, scores in zip(team, scoring, strict=True):
        sizes[name] += bool(scores)
    scale = lcm(*(size for size in sizes.values() if size))
    weights = [scale // sizes[name] if on else 0 for name, on in zip(team, scoring, strict=True)]
    return np.array(weights, np.int64), scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """The additive model of n entries against m opponents, made ready for any rates.

    Args:
        played: float (n, m), 1 where a pair is played for a score.
        row_weights: (n,), 0 where a row does not take part in the fit.
        column_weights: (m,), 0 where a column scores nobody.
        connected: bool (n, m), pairs that the played ones connect.
    """

    played: Matrix
    row_weights: Matrix
    column_weights: Matrix
    connected: NDArray[np.bool_]
    _inverse: Matrix
    _row_totals: Matrix

    @classmethod
    def of(
        cls,
        played: NDArray[np.bool_],
        row_weights: NDArray[np.int64],
        column_weights: NDArray[np.int64],
    ) -> "Fit":
        """The model for a pattern of played pairs, bool (n, m)."""
        u = row_weights / max(1, row_weights.max(initial=0))
        w = column_weights / max(1, column_weights.max(initial=0))
        m = (played & (column_weights > 0)).astype(np.float64)
        totals = m @ w
        shares = np.divide(u, totals, out=np.zeros_like(u), where=totals > 0)
        system = w[:, None] * (np.diag(m.T @ u) - (m.T * shares) @ m * w)
        return cls(
            played=m,
            row_weights=u,
            column_weights=w,
            connected=_connected(m > 0, u > 0),
            _inverse=np.linalg.pinv(system, hermitian=True) if system.size else system,
            _row_totals=totals,
        )

    def row_sums(self, rates: Matrix) -> Matrix:
        """S (..., n) of rates (..., n, m)."""
        sums: Matrix = (rates * self.played) @ self.column_weights
        return sums

    def column_sums(self, rates: Matrix) -> Matrix:
        """T (..., m) of rates (..., n, m)."""
        sums: Matrix = np.einsum("...nm,nm,n->...m", rates, self.played, self.row_weights)
        return sums

    def estimates(self, row_sums: Matrix, column_sums: Matrix) -> Matrix:
        """Rates (..., n, m) of all pairs under the model, cut to [0, 1]; NaN where not connected.

        Args:
            row_sums: S (..., n).
            column_sums: T (..., m).
        """
        totals = np.where(self._row_totals > 0, self._row_totals, 1.0)
        shares = self.row_weights / totals
        right = self.column_weights * (column_sums - (row_sums * shares) @ self.played)
        columns = right @ self._inverse.T
        rows = (row_sums - columns @ (self.played * self.column_weights).T) / totals
        found = np.clip(rows[..., :, None] + columns[..., None, :], 0.0, 1.0)
        return np.where(self.connected, found, np.nan)


def _connected(played: NDArray[np.bool_], in_fit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pairs (n, m) that a chain of played pairs connects, through rows of the fit alone."""
    from scipy.sparse import coo_array  # 0.1 s that every command would pay at its start
    from scipy.sparse.csgraph import connected_components

    rows, columns = played.shape
    if not rows or not columns:
        return np.zeros(played.shape, np.bool_)
    at, to = np.nonzero(played & in_fit[:, None])
    graph = coo_array((np.ones(len(at)), (at, rows + to)), shape=(rows + columns,) * 2)
    _, component = connected_components(graph, directed=False)
    of_columns = component[rows:]
    found = np.zeros(played.shape, np.bool_)
    for row in range(rows):
        met = np.unique(of_columns[played[row]])
        if len(met) == 1:  # what lies in two components has no one effect
            found[row] = of_columns == met[0]
    return found


def own_pairs(
    strangers: NDArray[np.bool_], scoring: NDArray[np.bool_], fit: Fit
) -> NDArray[np.bool_]:
    """Which pairs (n, m) of one team are estimated.

    Args:
        strangers: bool (n, m), pairs of two teams.
        scoring: bool (m,), opponents that score others.
        fit: The model.
    """
    return ~strangers & scoring & fit.connected
