"""Rankings of attacks and defenses by whom they beat, not only by how often.

Every ranking is a pure function of matrices, with a row per defense and a column per attack, and
returns its values together with its parameters. `game.py` takes the matrices from a tournament.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.nash import equilibrium

ROUNDS_2017 = 8
DAMPING = 0.85

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """The values of one ranking; NaN for an entry that it does not rank.

    Args:
        parameters: What it was computed with.
        attacks, defenses: float64 (A,) and (D,).
    """

    name: str
    parameters: Mapping[str, int | float] = field(default_factory=dict)
    attacks: Matrix
    defenses: Matrix

    @property
    def values(self) -> tuple[float | None, ...]:
        """Attacks, then defenses; None for an entry that is not ranked."""
        return tuple(
            None if np.isnan(value) else float(value)
            for value in np.concatenate([self.attacks, self.defenses])
        )


def pagerank_2017(
    correct: NDArray[np.int64],
    error: NDArray[np.int64],
    hit: NDArray[np.int64],
    *,
    targeted: NDArray[np.bool_],
    rounds: int = ROUNDS_2017,
) -> Ranking:
    """The analysis of a participant of 2017 that put the learned attack network first.

    Attacks gain weight by fooling defenses of weight, and defenses by withstanding attacks of
    weight, for a fixed number of rounds. No damping, no test of convergence. Where nobody gains
    any weight, nobody is ranked.

    Args:
        correct, error, hit: (D, A) counts of labels that exist, of all entries as they stand.
        targeted: (A,), the attacks that hits count for, not errors.
    """
    wins = np.where(targeted, hit, error).astype(np.float64)
    defenses = np.full(wins.shape[0], 1 / max(1, wins.shape[0]))
    attacks = np.full(wins.shape[1], 1 / max(1, wins.shape[1]))
    for _ in range(rounds):
        attacks, defenses = defenses @ wins, correct @ attacks
        if not attacks.sum() or not defenses.sum():
            attacks, defenses = np.full_like(attacks, np.nan), np.full_like(defenses, np.nan)
            break
        attacks, defenses = attacks / attacks.sum(), defenses / defenses.sum()
    return Ranking(
        name="pagerank_2017", parameters={"rounds": rounds}, attacks=attacks, defenses=defenses
    )


def pagerank(attack_rates: Matrix, defense_rates: Matrix, *, damping: float = DAMPING) -> Ranking:
    """PageRank of the graph in which everybody points at those who beat them.

    Solved exactly; the values of both kinds together sum to 1. A row's sum is lost in it, so how
    bad a defense is overall does not count, and targeted attacks weigh little.

    Args:
        attack_rates: (D, A), misclassification (hit) rates; 0 for a pair that is left out.
        defense_rates: (D, A), rates of right answers; 0 for a pair that is left out.

    Example:
        >>> errors = np.array([[0.9, 0.2], [0.8, 0.4]])
        >>> pagerank(errors, 1 - errors).attacks.round(3).tolist()
        [0.348, 0.152]
    """
    d, a = attack_rates.shape
    n = d + a
    weights = np.block([[np.zeros((d, d)), attack_rates], [defense_rates.T, np.zeros((a, a))]])
    sums = weights.sum(axis=1, keepdims=True)
    links = np.divide(weights, sums, out=np.full((n, n), 1 / max(1, n)), where=sums > 0)
    ranks = np.linalg.solve(np.eye(n) - damping * links.T, np.full(n, (1 - damping) / max(1, n)))
    return Ranking(
        name="pagerank", parameters={"damping": damping}, attacks=ranks[d:], defenses=ranks[:d]
    )


def nash(rates: Matrix, *, played: NDArray[np.bool_] | None = None) -> Ranking:
    """Nash averaging (Balduzzi et al. 2018): each entry against the other side's best mix.

    The mixes are the equilibrium of maximum entropy of the zero-sum game that pays an attack its
    rate. An attack's value is its expected rate against the defenses' mix, a defense's is 1 - the
    expected rate of the attacks' mix. Copies of an entry must have been merged.

    A pair that is not played pays what its two are expected to do by all other pairs: the sum of
    their mean rates, less the mean of all. So it says nothing about itself, tempts nobody into a
    mix, and every entry has a value.

    Args:
        rates: (D, A), misclassification (hit) rates.
        played: (D, A), the pairs that count; all by default.

    Example:
        >>> nash(np.array([[0.9, 0.2], [0.8, 0.4]])).attacks.round(3).tolist()
        [0.8, 0.4]
    """
    if not rates.size:
        nobody = np.full(rates.shape[1], np.nan), np.full(rates.shape[0], np.nan)
        return Ranking(name="nash", attacks=nobody[0], defenses=nobody[1])
    game = rates if played is None else np.where(played, rates, _expected(rates, played))
    solution = equilibrium(game.T)
    return Ranking(name="nash", attacks=solution.columns @ game, defenses=1 - game @ solution.rows)


def _expected(rates: Matrix, played: NDArray[np.bool_]) -> Matrix:
    """What every pair would be expected to yield if defense and attack did not interact."""
    known = np.ma.array(rates, mask=~played)
    means = known.mean(axis=0, keepdims=True) + known.mean(axis=1, keepdims=True) - known.mean()
    return np.asarray(np.clip(means, 0, 1))
