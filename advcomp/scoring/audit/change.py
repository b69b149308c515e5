"""How much two answers to the same question differ: a size, its interval, and a test of it.

Two ways to compare. *Shares*: how many of n answers changed; the test is the exact binomial one of
"at most a share t changes", t being what an honest entry may owe to rounding. *Rates*: how an
average (of right answers, of wins, of pixel levels) moved over n units that do not depend on each
other; the test is the exact sign test, which holds whenever the two conditions may be exchanged:
for any honest randomness that is drawn for each unit. Units are images: answers of several
defenses to one image are one unit.

Intervals are at 95 %: exact (Clopper-Pearson) for shares, the percentiles of a bootstrap over
units for rates, and the exact bound instead of a width of 0 where no unit moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.intervals import PERCENTILES, TAIL, draws

ROUNDS = 1000
"""Resamples that the interval of a rate comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How far two answers are apart.

    Args:
        units: How many were compared.
        size: The share that changed, or the difference of two averages.
        low, high: Its 95 % interval.
        p: How likely as much, or more, is of an honest entry; 1 where there is nothing to test.
    """

    units: int
    size: float
    low: float
    high: float
    p: float = 1.0


def share(count: int, units: int, *, tolerance: float | None = None) -> Change:
    """A share, with its exact interval.

    Args:
        tolerance: What an honest entry may come to; None where nothing is tested.
    """
    if not units:
        return Change(units=0, size=0.0, low=0.0, high=1.0)
    low, high = bounds(count, units, TAIL)
    p = 1.0 if tolerance is None else at_least(count, units, tolerance)
    return Change(units=units, size=count / units, low=low, high=high, p=p)


def at_least(count: int, units: int, chance: float) -> float:
    """The probability of `count` successes or more in `units` tries."""
    from scipy.special import betainc  # half a second that no run without an audit should wait

    return 1.0 if count == 0 else float(betainc(count, units - count + 1, chance))


def bounds(count: int, units: int, tail: float) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share that leaves `tail` out on either side."""
    from scipy.special import betaincinv

    low = 0.0 if count == 0 else float(betaincinv(count, units - count + 1, tail))
    high = 1.0 if count == units else float(betaincinv(count + 1, units - count, 1 - tail))
    return low, high


def moved(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    *,
    seed: int,
    falls: bool = False,
    rounds: int = ROUNDS,
) -> Change:
    """How an average over units moved.

    Args:
        before, after: float64 (n,), what each unit came to.
        seed: Of the generator that draws the resamples.
        falls: Test only whether it fell; else whether it moved either way.
        rounds: How many resamples.
    """
    difference = after - before
    if not len(difference):
        return Change(units=0, size=0.0, low=-1.0, high=1.0)
    down, up = int((difference < 0).sum()), int((difference > 0).sum())
    if down + up:
        generator = np.random.default_rng(seed)
        means = [drawn @ difference for drawn in draws(len(difference), rounds, generator)]
        low, high = np.percentile(np.concatenate(means) / len(difference), PERCENTILES)
    else:
        unseen = 1 - TAIL ** (1 / len(difference))
        low, high = -unseen, unseen
    tails = at_least(down, down + up, 0.5), at_least(up, down + up, 0.5)
    return Change(
        units=len(difference),
        size=float(difference.mean()),
        low=float(low),
        high=float(high),
        p=tails[0] if falls else min(1.0, 2 * min(tails)),
    )


def by_unit(values: NDArray[np.float64], units: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean of the values of every unit that has any, in the order of their numbers."""
    present, place = np.unique(units, return_inverse=True)
    sums = np.bincount(place, weights=values, minlength=len(present))
    means: NDArray[np.float64] = sums / np.bincount(place, minlength=len(present))
    return means


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several tests are significant together (Holm 1979).

    Whatever the tests have to do with each other, the chance that any true hypothesis is among
    them is at most `level`.
    """
    significant = [False] * len(p_values)
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] * (len(p_values) - done) > level:
            break
        significant[place] = True
    return significant
