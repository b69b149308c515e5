"""Counts of labels, who is complete, who meets whom: what scores and rankings start from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import MISSING, Entry, Results


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Labels that exist, counted per budget, defense and attack: int64 (E, D, A) each.

    Args:
        correct: Labels equal to the true label.
        error: Labels unequal to it.
        hit: Labels equal to the target class (all 0 where the dataset has none).
    """

    correct: NDArray[np.int64]
    error: NDArray[np.int64]
    hit: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tallies:
    """Counts of a tournament with A attacks, D defenses, P pairs and E budgets.

    Pairs that lack a result because of us (`Results.infra_pairs`) are *not scored*: they count in
    `all_labels` only. Completeness is about scored pairs, so a failure of ours expels nobody.

    Args:
        max_epsilons: int64 (E,), ascending.
        all_labels: Counts over every pair.
        scored_labels: Counts over the scored pairs.
        scored: bool (P,), the scored pairs.
        pairs: int64 (E,), number of scored pairs of each budget.
        complete_attacks: bool (A,), not REJECTED and a valid image for every scored pair.
        complete_defenses: bool (D,), not REJECTED and a label for every adversarial image that
            exists, of all attacks, among the scored pairs.
        strangers: bool (D, A), whether defense and attack are not of one team.
    """

    max_epsilons: NDArray[np.int64]
    all_labels: Counts
    scored_labels: Counts
    scored: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    complete_attacks: NDArray[np.bool_]
    complete_defenses: NDArray[np.bool_]
    strangers: NDArray[np.bool_]


def rejected(entries: tuple[Entry, ...]) -> NDArray[np.bool_]:
    """Which of the entries were REJECTED, bool (n,)."""
    return np.array([entry.verdict is Verdict.REJECTED for entry in entries], dtype=bool)


def tally(results: Results) -> Tallies:
    """Count the labels of a tournament; one pass over the predictions, one attack at a time."""
    scored = ~results.infra_pairs
    max_epsilons = np.unique(results.pair_max_epsilon)
    membership = results.pair_max_epsilon[:, None] == max_epsilons
    all_labels = _count(results, membership)
    scored_labels = all_labels if scored.all() else _count(results, membership & scored[:, None])
    images = results.exists[:, scored]
    labelled = (scored_labels.correct + scored_labels.error).sum(axis=(0, 2))
    return Tallies(
        max_epsilons=max_epsilons,
        all_labels=all_labels,
        scored_labels=scored_labels,
        scored=scored,
        pairs=(membership & scored[:, None]).sum(axis=0),
        complete_attacks=images.all(axis=1) & ~rejected(results.attacks),
        complete_defenses=(labelled == images.sum()) & ~rejected(results.defenses),
        strangers=_strangers(results),
    )


def _count(results: Results, membership: NDArray[np.bool_]) -> Counts:
    """Count labels per group of pairs; `membership` is (P, E).

    The product with a 0/1 matrix is exact: a float32 holds every count up to 2**24.
    """
    shape = (membership.shape[1], len(results.defenses), len(results.attacks))
    counts = Counts(**{name: np.zeros(shape, np.int64) for name in ("correct", "error", "hit")})
    groups = membership.astype(np.float32)
    labels = results.labels[results.pair_image]
    for attack in range(len(results.attacks)):
        answers = results.predictions[:, attack]
        correct = answers == labels
        counts.correct[:, :, attack] = (correct @ groups).T
        counts.error[:, :, attack] = ((~correct & (answers != MISSING)) @ groups).T
        if results.target_classes is not None:
            hit = answers == results.target_classes[results.pair_image]
            counts.hit[:, :, attack] = (hit @ groups).T
    return counts


def _strangers(results: Results) -> NDArray[np.bool_]:
    return np.array(
        [[d.team is None or d.team != a.team for a in results.attacks] for d in results.defenses],
        dtype=bool,
    ).reshape(len(results.defenses), len(results.attacks))
