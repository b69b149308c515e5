"""95 % intervals of scores and ranks: how much they owe to the choice of images.

A paired bootstrap. The unit is a source image with all its pairs, and every entry is resampled
with the same images, so that what two entries have in common cancels. Who is complete stays as it
is in the data. The intervals speak of images, not of the choice of opponents.

An entry's points on an image are all that its score needs, so a resample is a product of a vector
of image counts with a matrix (images x entries): integers in float64, exact whatever the order of
the additions. A score is then *one* division of exact integers, correctly rounded, so that equal
fractions are equal floats and ties in a resample are ties. Pairs of one team that are estimated
are fitted again in every resample, from the sums that the fit needs (`opponents.py`), which are
resampled in the same way.

Where an entry does equally well on every image, every resample is the same, and a width of 0 would
claim that no image could be different. The exact (Clopper-Pearson) bound says instead how many
could be: after n images that agree, fewer than a share u = 1 - 0.025 ** (1 / n) disagree. It is
the two-sided bound, because 0.025 is what the percentiles leave on that side of an interval, and
because it is what "exact 95 % interval" means elsewhere. A score of 0 gets [0, u], a score of 1
gets [1 - u, 1], and a score s between them [s - u s, s + u (1 - s)]: the share u could have scored
anything.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.opponents import DECIMALS, Fit
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
    sample = sample_of(results, scores)
    resampled = sample.resampled(rounds, np.random.default_rng(seed))
    ranks = _ranks(scores.entries, resampled)
    return tuple(
        Interval() if entry.score is None else _interval(sample, i, resampled[:, i], ranks[:, i])
        for i, entry in enumerate(scores.entries)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What n entries scored on N images, and could have.

    Args:
        images: intp (N,), which of the tournament's images these are.
        points: float64 (n, N), whole numbers: weight of the pairs won, over all opponents.
        pairs: float64 (N,), whole numbers above 0: scored pairs of the image.
        opponents: float64 (n,), weight of the opponents that an entry is scored on.
        scale: (n,), the weight of an opponent with a team of its own, of which counts are made.
        counts: Whether scores are counts, not rates.
        own: What adds the own pairs that are estimated.
    """

    images: NDArray[np.intp]
    points: Matrix
    pairs: Matrix
    opponents: Matrix
    scale: Matrix
    counts: bool
    own: "tuple[_OwnPairs, ...]" = ()

    def resampled(self, rounds: int, generator: np.random.Generator) -> Matrix:
        """The scores in every resample, (rounds, n); NaN without opponents."""
        return np.concatenate(
            [self.scores(drawn) for drawn in draws(len(self.pairs), rounds, generator)]
        )

    def scores(self, drawn: Matrix) -> Matrix:
        """Scores with image k taken drawn[:, k] times, (rounds, n); NaN without opponents."""
        points = drawn @ self.points.T
        for own in self.own:
            points[:, own.rows] += own.points(drawn)
        if self.counts:
            counted: Matrix = points / self.scale
            return counted
        chances = (drawn @ self.pairs)[:, None] * self.opponents
        return np.divide(points, chances, out=np.full_like(points, np.nan), where=chances > 0)

    def score_bounds(self, entry: int, resampled: Matrix) -> tuple[float, float]:
        """The interval of an entry's score, from its scores in the resamples."""
        points, chances = self.points[entry], self.pairs * self.opponents[entry]
        scale = chances.sum() / self.scale[entry] if self.counts else 1.0
        estimated = any(entry in own.rows_with_estimates for own in self.own)
        if not estimated and (points * chances.sum() == points.sum() * chances).all():
            rate = points.sum() / chances.sum()
            unseen = 1 - TAIL ** (1 / len(points))
            low, high = scale * (rate - unseen * rate), scale * (rate + unseen * (1 - rate))
        else:
            low, high = np.percentile(resampled, PERCENTILES)
        return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OwnPairs:
    """The own pairs of the entries that one fit is made for.

    Args:
        rows: Those entries, as places in the sample.
        fit: Their model.
        estimated: bool (rows, m).
        weights: float64 (m,), of the opponents; the model's own are shares of them.
        row_sums, column_sums: float64 (budgets, rows, N) and (budgets, m, N): what an image adds
            to the model's sums of rates, each times the pairs of its budget.
        pairs: float64 (budgets, N), scored pairs of an image.
    """

    rows: NDArray[np.intp]
    fit: Fit
    estimated: NDArray[np.bool_]
    weights: Matrix
    row_sums: Matrix
    column_sums: Matrix
    pairs: Matrix

    @property
    def rows_with_estimates(self) -> set[int]:
        """Places in the sample."""
        return set(self.rows[self.estimated.any(axis=1)].tolist())

    def points(self, drawn: Matrix) -> Matrix:
        """What estimates add to the points of every row, (rounds, rows)."""
        added = np.zeros((len(drawn), len(self.rows)))
        for row_sums, column_sums, pairs in zip(
            self.row_sums, self.column_sums, self.pairs, strict=True
        ):
            chances = np.maximum(drawn @ pairs, 1)
            rates = self.fit.estimates(
                drawn @ row_sums.T / chances[:, None], drawn @ column_sums.T / chances[:, None]
            )
            own = np.where(self.estimated, np.round(rates, DECIMALS), 0.0) @ self.weights
            added += own * (drawn @ pairs)[:, None]
        return added


def draws(images: int, rounds: int, generator: np.random.Generator) -> Iterator[Matrix]:
    """How often each image is drawn, (rounds, images) a few rounds at a time."""
    for start in range(0, rounds, BATCH):
        counts = [
            np.bincount(generator.integers(images, size=images), minlength=images)
            for _ in range(start, min(start + BATCH, rounds))
        ]
        yield np.array(counts, dtype=np.float64)


def _own_pairs(
    results: Results, scores: Scores, scored_images: NDArray[np.bool_]
) -> Iterator[_OwnPairs]:
    """What estimates each side's own pairs in a resample; nothing where there are none."""
    images = len(results.image_ids)
    budgets = results.pair_max_epsilon == scores.tallies.max_epsilons[:, None]
    budgets &= scores.tallies.scored

    def by_image(points: NDArray[np.float64]) -> Matrix:
        """(n, P) -> (budgets, n, N')."""
        return np.array(
            [
                [
                    np.bincount(results.pair_image, weights=row * budget, minlength=images)
                    for row in points
                ]
                for budget in budgets
            ]
        ).reshape(len(budgets), len(points), images)[..., scored_images]

    pairs = by_image(np.ones((1, len(results.pair_image))))[:, 0]
    for side, first in ((scores.attack_side, 0), (scores.defense_side, len(results.attacks))):
        for rows, fit in side.fits:
            if not side.estimated[rows].any():
                continue
            row_sums = np.zeros((len(rows), len(results.pair_image)))
            column_sums = np.zeros((side.weights.size, len(results.pair_image)))
            for at, row in enumerate(rows):
                is_attack = side is scores.attack_side
                won = _won(results, scores, is_attack=is_attack, row=int(row))
                row_sums[at] = (fit.played[at] * fit.column_weights) @ won
                column_sums += (fit.played[at] * fit.row_weights[at])[:, None] * won
            yield _OwnPairs(
                rows=rows + first,
                fit=fit,
                estimated=side.estimated[rows],
                weights=side.weights.astype(np.float64),
                row_sums=by_image(row_sums),
                column_sums=by_image(column_sums),
                pairs=pairs,
            )


def _weighed(weights: NDArray[np.int64], won: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The weight of what was won, (P,), of won (m, P): whole numbers, exact in float64."""
    if len(weights) and (weights == weights[0]).all():
        equal: NDArray[np.int64] = weights[0] * won.sum(axis=0)
        return equal
    summed: NDArray[np.int64] = (weights.astype(np.float64) @ won).astype(np.int64)
    return summed


def _won(results: Results, scores: Scores, *, is_attack: bool, row: int) -> NDArray[np.bool_]:
    """Pairs that an entry won, against each opponent: bool (m, P)."""
    labels = results.labels[results.pair_image]
    if not is_attack:
        correct: NDArray[np.bool_] = results.predictions[row] == labels
        return correct
    answers = results.predictions[:, row]
    if targeted(results)[row] and results.target_classes is not None:
        hit: NDArray[np.bool_] = answers == results.target_classes[results.pair_image]
        return hit
    missing_wins = wins_by_absence(results, scores.absence)[row]
    wrong: NDArray[np.bool_] = (answers != labels) & ((answers != MISSING) | missing_wins)
    return wrong


def sample_of(results: Results, scores: Scores) -> Sample:
    """What every entry scored on each image, attacks first."""
    points = np.concatenate(_points(results, scores)) * scores.tallies.scored
    pairs: Matrix = np.bincount(results.pair_image, weights=scores.tallies.scored).astype(
        np.float64
    )
    by_image = [
        np.bincount(results.pair_image, weights=entry, minlength=len(pairs))[pairs > 0]
        for entry in points
    ]
    sides = scores.attack_side, scores.defense_side
    opponents = [(side.opponents | side.estimated) @ side.weights for side in sides]
    scale = [np.full(len(side.opponents), side.scale) for side in sides]
    return Sample(
        images=np.flatnonzero(pairs),
        points=np.array(by_image, dtype=np.float64).reshape(len(points), (pairs > 0).sum()),
        pairs=pairs[pairs > 0],
        opponents=np.concatenate(opponents).astype(np.float64),
        scale=np.concatenate(scale).astype(np.float64),
        counts=scores.absence.counts,
        own=tuple(_own_pairs(results, scores, pairs > 0)),
    )


def _points(results: Results, scores: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points per pair of every attack and every defense, over their opponents: (A, P), (D, P)."""
    pairs = len(results.pair_image)
    attacks = np.zeros((len(results.attacks), pairs), np.int64)
    defenses = np.zeros((len(results.defenses), pairs), np.int64)
    attack_side, defense_side = scores.attack_side, scores.defense_side
    labels = results.labels[results.pair_image]
    for a in range(len(attacks)):
        met = attack_side.opponents[a]
        won = _won(results, scores, is_attack=True, row=a)
        attacks[a] = _weighed(attack_side.weights[met], won[met])
        correct = results.predictions[:, a] == labels
        defenses += defense_side.weights[a] * (correct & defense_side.opponents[:, [a]])
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


def _interval(sample: Sample, entry: int, resampled: Matrix, ranks: Matrix) -> Interval:
    low, high = sample.score_bounds(entry, resampled)
    interval = Interval(score_low=low, score_high=high)
    if sample.counts:
        interval = Interval(score_low=math.floor(low), score_high=math.ceil(high))
    if np.isnan(ranks).any():
        return interval
    first, last = np.percentile(ranks, PERCENTILES)
    return replace(interval, rank_low=math.floor(first), rank_high=math.ceil(last))
