"""How an entry's score differs between two runs, and how much of that is the choice of images.

Both scores are taken on the images that the runs have in common: equal ImageIds with equal true
labels. In each run an entry meets that run's opponents, so the difference is what the settings,
the opponents and the entry's own change did together; where only one of them differs, it is that
one's. The interval is a paired bootstrap: every resample draws the same images for both runs, so
that what they share cancels. Scores are rates here, also where a run's are counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.intervals import PERCENTILES, Matrix, Sample, draws, sample_of
from advcomp.scoring.standings import Standings


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An entry that two runs have.

    Args:
        track: What kind of entry it is.
        submission: Its name in the first run.
        images: How many images both scores are over.
        first, second: Its scores on them in either run.
        difference: The second less the first.
        low, high: 95 % of the differences in resamples of the images; None without resamples.
    """

    track: SubmissionType
    submission: str
    images: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None


def paired_differences(
    first: Standings, second: Standings, names: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """Compare all entries that both runs scored, in the order of the first run's entries.

    Args:
        names: What entries of the first run are called in the second; by default the same.
    """
    one, other = (_rates(standings) for standings in (first, second))
    images, in_one, in_other = _common(first, one, second, other)
    places = _places(first, second, names)
    if not places or not images:
        return ()
    mine, theirs = np.array(places).T

    def scores(drawn: Matrix) -> tuple[Matrix, Matrix]:
        spread = np.zeros((len(drawn), len(one.pairs))), np.zeros((len(drawn), len(other.pairs)))
        spread[0][:, in_one], spread[1][:, in_other] = drawn, drawn
        return one.scores(spread[0])[:, mine], other.scores(spread[1])[:, theirs]

    before, after = (values[0] for values in scores(np.ones((1, images))))
    options = first.options
    resampled = [
        later - earlier
        for drawn in draws(images, options.bootstrap, np.random.default_rng(options.seed))
        for earlier, later in [scores(drawn)]
    ]
    bounds = np.percentile(np.concatenate(resampled), PERCENTILES, axis=0) if resampled else None
    return tuple(
        Difference(
            track=first.scores.entries[place].entry.type,
            submission=first.scores.entries[place].entry.name,
            images=images,
            first=float(before[i]),
            second=float(after[i]),
            difference=float(after[i] - before[i]),
            low=None if bounds is None else float(bounds[0, i]),
            high=None if bounds is None else float(bounds[1, i]),
        )
        for i, place in enumerate(mine.tolist())
    )


def common_images(first: Standings, second: Standings) -> int:
    """How many images two runs are compared on."""
    return _common(first, _rates(first), second, _rates(second))[0]


def _rates(standings: Standings) -> Sample:
    return replace(sample_of(standings.results, standings.scores), counts=False)


def _common(
    first: Standings, one: Sample, second: Standings, other: Sample
) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """How many images both samples have, and their places in either."""

    def known(standings: Standings, sample: Sample) -> dict[tuple[str, int], int]:
        results = standings.results
        return {
            (results.image_ids[image], int(results.labels[image])): place
            for place, image in enumerate(sample.images)
        }

    there = known(second, other)
    pairs = [(at, there[key]) for key, at in known(first, one).items() if key in there]
    mine, theirs = np.array(pairs, np.intp).reshape(-1, 2).T
    return len(pairs), mine, theirs


def _places(
    first: Standings, second: Standings, names: Mapping[str, str] | None
) -> list[tuple[int, int]]:
    """The places of every entry that has a score in both runs."""
    there = {
        (score.entry.type, score.entry.name): place
        for place, score in enumerate(second.scores.entries)
        if score.score is not None
    }
    found = []
    for place, score in enumerate(first.scores.entries):
        name = score.entry.name if names is None else names.get(score.entry.name, "")
        key = score.entry.type, name
        if score.score is not None and key in there:
            found.append((place, there[key]))
    return found
