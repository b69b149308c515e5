"""95 % intervals of scores and ranks: how much they owe to the choice of images.

A paired bootstrap. The unit is a source image with all its pairs, and every entry is resampled
with the same images, so that what two entries have in common cancels. Who is complete stays as it
is in the data. The intervals speak of images, not of the choice of opponents.

An entry's points on an image are all that its score needs, so a resample is a product of a vector
of image counts with a matrix (images x entries): integers in float64, exact whatever the order of
the additions. A score is then *one* division of exact integers, correctly rounded, so that equal
fractions are equal floats and ties in a resample are ties.

Where an entry does equally well on every image, every resample is the same, and a width of 0 would
claim that no image could be different. The exact (Clopper-Pearson) bound says instead how many
could be: after n images that agree, fewer than a share u = 1 - 0.025 ** (1 / n) disagree. It is
the two-sided bound, because 0.025 is what the percentiles leave on that side of an interval, and
because it is what "exact 95 % interval" means elsewhere. A score of 0 gets [0, u], a score of 1
gets [1 - u, 1], and a score s between them [s - u s, s + u (1 - s)]: the share u could have scored
anything.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.results import MISSING, Results
from advcomp.scoring.scores import EntryScore, Scores, targeted, wins_by_absence

TAIL = 0.025
"""What an interval leaves out on either side."""

PERCENTILES = (100 * TAIL, 100 * (1 - TAIL))

BATCH = 100
"""Resamples at once: what their image counts may take of memory."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where an entry's score and rank lie in 95 % of resamples; None where it has none.

    Args:
        score_low, score_high: Rates, or counts (rounded outwards) where scores are counts.
        rank_low, rank_high: Rounded outwards.
    """

    score_low: float | int | None = None
    score_high: float | int | None = None
    rank_low: int | None = None
    rank_high: int | None = None


def bootstrap(results: Results, scores: Scores, *, rounds: int, seed: int) -> tuple[Interval, ...]:
    """The intervals of all entries, attacks first; empty where there is no score or no round.

    Args:
        rounds: Resamples.
        seed: Of numpy's default generator (PCG64), which draws resample after resample as many
            images, with replacement, as there are images with a scored pair.
    """
    if not rounds or not scores.tallies.scored.any():
        return tuple(Interval() for _ in scores.entries)
    sample = _sample(results, scores)
    resampled = sample.resampled(rounds, np.random.default_rng(seed))
    ranks = _ranks(scores.entries, resampled)
    return tuple(
        Interval() if entry.score is None else _interval(sample, i, resampled[:, i], ranks[:, i])
        for i, entry in enumerate(scores.entries)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sample:
    """What n entries scored on N images, and could have.

    Args:
        points: float64 (n, N), whole numbers: pairs won, over all opponents.
        pairs: float64 (N,), whole numbers above 0: scored pairs of the image.
        opponents: float64 (n,), how many opponents an entry is scored on.
        counts: Whether scores are counts, not rates.
    """

    points: Matrix
    pairs: Matrix
    opponents: Matrix
    counts: bool

    def resampled(self, rounds: int, generator: np.random.Generator) -> Matrix:
        """The scores in every resample, (rounds, n); NaN without opponents."""
        images = len(self.pairs)
        batches = []
        for start in range(0, rounds, BATCH):
            drawn = [
                np.bincount(generator.integers(images, size=images), minlength=images)
                for _ in range(start, min(start + BATCH, rounds))
            ]
            batches.append(self._scores(np.array(drawn, dtype=np.float64)))
        return np.concatenate(batches)

    def _scores(self, drawn: Matrix) -> Matrix:
        """Scores with image k taken drawn[:, k] times."""
        points = drawn @ self.points.T
        if self.counts:
            return points
        chances = (drawn @ self.pairs)[:, None] * self.opponents
        return np.divide(points, chances, out=np.full_like(points, np.nan), where=chances > 0)

    def score_bounds(self, entry: int, resampled: Matrix) -> tuple[float, float]:
        """The interval of an entry's score, from its scores in the resamples."""
        points, chances = self.points[entry], self.pairs * self.opponents[entry]
        scale = chances.sum() if self.counts else 1.0
        if (points * chances.sum() == points.sum() * chances).all():
            rate = points.sum() / chances.sum()
            unseen = 1 - TAIL ** (1 / len(points))
            low, high = scale * (rate - unseen * rate), scale * (rate + unseen * (1 - rate))
        else:
            low, high = np.percentile(resampled, PERCENTILES)
        return float(low), float(high)


def _sample(results: Results, scores: Scores) -> _Sample:
    points = np.concatenate(_points(results, scores)) * scores.tallies.scored
    pairs: Matrix = np.bincount(results.pair_image, weights=scores.tallies.scored).astype(
        np.float64
    )
    by_image = [
        np.bincount(results.pair_image, weights=entry, minlength=len(pairs))[pairs > 0]
        for entry in points
    ]
    opponents = [scores.attack_opponents.sum(axis=1), scores.defense_opponents.sum(axis=1)]
    return _Sample(
        points=np.array(by_image, dtype=np.float64).reshape(len(points), (pairs > 0).sum()),
        pairs=pairs[pairs > 0],
        opponents=np.concatenate(opponents).astype(np.float64),
        counts=scores.absence.counts,
    )


def _points(results: Results, scores: Scores) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Points per pair of every attack and every defense, over their opponents: (A, P), (D, P)."""
    labels = results.labels[results.pair_image]
    is_targeted, wins_missing = targeted(results), wins_by_absence(results, scores.absence)
    pairs = len(results.pair_image)
    attacks = np.zeros((len(results.attacks), pairs), np.int32)
    defenses = np.zeros((len(results.defenses), pairs), np.int32)
    for a in range(len(attacks)):
        answers = results.predictions[:, a]
        correct = answers == labels
        wins = ~correct & ((answers != MISSING) | wins_missing[a])
        if is_targeted[a] and results.target_classes is not None:
            wins = answers == results.target_classes[results.pair_image]
        attacks[a] = wins[scores.attack_opponents[a]].sum(axis=0)
        defenses += correct & scores.defense_opponents[:, [a]]
    return attacks, defenses


def _ranks(entries: tuple[EntryScore, ...], resampled: Matrix) -> Matrix:
    """Ranks in every resample, (rounds, n), ties 1, 1, 3; NaN for an entry without a rank."""
    ranks = np.full_like(resampled, np.nan)
    for track in SubmissionType:
        ranked = [i for i, e in enumerate(entries) if e.entry.type is track and e.rank is not None]
        for row, scores in zip(ranks, resampled[:, ranked], strict=True):
            not_better = np.searchsorted(np.sort(scores), scores, side="right")
            row[ranked] = 1 + len(ranked) - not_better
    return ranks


def _interval(sample: _Sample, entry: int, resampled: Matrix, ranks: Matrix) -> Interval:
    low, high = sample.score_bounds(entry, resampled)
    interval = Interval(score_low=low, score_high=high)
    if sample.counts:
        interval = Interval(score_low=math.floor(low), score_high=math.ceil(high))
    if np.isnan(ranks).any():
        return interval
    first, last = np.percentile(ranks, PERCENTILES)
    return replace(interval, rank_low=math.floor(first), rank_high=math.ceil(last))
