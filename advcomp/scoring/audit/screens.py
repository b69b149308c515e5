"""What the stored answers of a run tell by themselves: nothing is run for it.

Answers are *telling* where two entries did not both do what every good entry does: labels of which
one at least is wrong, images of which one at least is not the clean one. Honest defenses agree on
what they get right, so agreement there says nothing. Images that differ are compared value by
value, too: a copy with slightly other weights makes no image the same, and most of each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.audit.change import ROUNDS, Change, bounds, share
from advcomp.scoring.audit.finding import AuditCheck, Finding, Measure
from advcomp.scoring.intervals import PERCENTILES, draws
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import targeted

LEAST = 10
"""Answers, or telling ones, below which sameness is no news."""
NEARLY = 0.98
"""Share of telling answers that two entries must have in common to be nearly identical."""
SURE = 0.01
"""What the exact bound of that share leaves out below."""
FAR = 0.25
"""How far the rate of own pairs may lie from what the other pairs let expect."""
LEAST_IMAGES = 30
"""Images below which own pairs are listed and not tested: the test is asymptotic."""

Digests = Mapping[str, NDArray[np.str_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike two attacks' images are, value by value.

    Args:
        values: Of pixels, that one attack at least moved farther than the tolerance.
        equal: Those in which the two are as near to each other.
        images: Whose they are.
    """

    values: int = 0
    equal: int = 0
    images: int = 0


Likenesses = Mapping[tuple[str, str], Likeness]


def screened(
    results: Results, digests: Digests, clean: NDArray[np.str_], likenesses: Likenesses
) -> Iterator[Finding]:
    """All that can be told without running anything.

    Args:
        digests: Attack -> (P,), the digest of its image of every pair, "" where there is none.
        clean: (P,), the digest of the clean image of every pair.
        likenesses: Of pairs of attacks, by their names in order.
    """
    yield from constant(results)
    yield from alike_defenses(results)
    yield from alike_attacks(results, digests, clean, likenesses)
    yield from own_pairs(results)


def constant(results: Results) -> Iterator[Finding]:
    """Defenses, by how common their commonest answer is; flagged where there is no other."""
    varied = len(np.unique(results.labels)) > 1
    for row, entry in enumerate(results.defenses):
        labels = _answers(results, row)
        given = labels[labels != MISSING]
        if not len(given):
            continue
        answers, counts = np.unique(given, return_counts=True)
        most = int(counts.max())
        if most / len(given) < NEARLY:
            continue
        yield Finding(
            check=AuditCheck.CONSTANT,
            entry=entry.name,
            measure=Measure.TOP_LABEL,
            change=share(most, len(given)),
            flagged=varied and most == len(given) >= LEAST,
            note=f"the answer is {answers[counts.argmax()]}",
        )


def alike_defenses(results: Results) -> Iterator[Finding]:
    """Defenses of different teams that agree where they are not both right."""
    truth = np.concatenate(
        [results.labels, *[results.labels[results.pair_image]] * len(results.attacks)]
    )
    answers = [_answers(results, row) for row in range(len(results.defenses))]
    for one, other in combinations(range(len(answers)), 2):
        first, second = answers[one], answers[other]
        telling = ((first != truth) | (second != truth)) & (
            (first != MISSING) | (second != MISSING)
        )
        yield from _alike(
            results.defenses[one],
            results.defenses[other],
            int((first == second)[telling].sum()),
            int(telling.sum()),
        )


def alike_attacks(
    results: Results, digests: Digests, clean: NDArray[np.str_], likenesses: Likenesses
) -> Iterator[Finding]:
    """Attacks of different teams that make the same images where they change any, or nearly so."""
    for one, other in combinations(results.attacks, 2):
        if one.name not in digests or other.name not in digests:
            continue
        first, second = digests[one.name], digests[other.name]
        telling = ((first != clean) | (second != clean)) & ((first != "") | (second != ""))
        equal = int((first == second)[telling].sum())
        found = list(_alike(one, other, equal, int(telling.sum())))
        yield from found or _alike_by_value(one, other, likenesses)


def _alike(one: Entry, other: Entry, equal: int, telling: int) -> Iterator[Finding]:
    same_files = bool(one.digest) and one.digest == other.digest
    if of_one_team(one, other) or (not same_files and telling < LEAST):
        return
    low = bounds(equal, telling, SURE)[0] if telling else 0.0
    is_same = same_files or equal == telling
    if is_same or low >= NEARLY:
        yield Finding(
            check=AuditCheck.IDENTICAL if is_same else AuditCheck.NEAR_IDENTICAL,
            entry=one.name,
            other=other.name,
            measure=Measure.AGREEMENT,
            change=share(equal, telling),
            flagged=True,
            note="the files are the same" if same_files else "",
        )


def _alike_by_value(one: Entry, other: Entry, likenesses: Likenesses) -> Iterator[Finding]:
    first, second = sorted((one.name, other.name))
    likeness = likenesses.get((first, second), Likeness())
    if of_one_team(one, other) or likeness.images < LEAST:
        return
    if bounds(likeness.equal, likeness.values, SURE)[0] >= NEARLY:
        yield Finding(
            check=AuditCheck.NEAR_IDENTICAL,
            entry=one.name,
            other=other.name,
            measure=Measure.VALUES,
            change=share(likeness.equal, likeness.values),
            flagged=True,
            note=f"value by value, in {likeness.images} images",
        )


def of_one_team(one: Entry, other: Entry) -> bool:
    """Whether two entries have a team, and the same."""
    return one.team is not None and one.team == other.team


def own_pairs(results: Results) -> Iterator[Finding]:
    """Pairs of one team, by how far their rate is from what the other pairs let expect.

    What is expected is the additive one: how good the attack is against others' defenses, plus how
    weak the defense is against others' attacks, less how others fare on the whole, image by image.
    """
    wins = won(results)
    for d, defense in enumerate(results.defenses):
        for a, attack in enumerate(results.attacks):
            if not of_one_team(defense, attack):
                continue
            theirs_d = [i for i, e in enumerate(results.defenses) if not of_one_team(e, attack)]
            theirs_a = [i for i, e in enumerate(results.attacks) if not of_one_team(e, defense)]
            if theirs_d and theirs_a:
                yield _own_pair(results, wins, (d, a), (theirs_d, theirs_a))


def _own_pair(
    results: Results,
    wins: NDArray[np.float64],
    own: tuple[int, int],
    theirs: tuple[list[int], list[int]],
) -> Finding:
    d, a = own
    others = wins[np.ix_(*theirs)].mean(axis=(0, 1))
    expected = wins[theirs[0], a].mean(axis=0) + wins[d, theirs[1]].mean(axis=0) - others
    pairs = np.bincount(results.pair_image, minlength=len(results.image_ids))
    sums = np.bincount(results.pair_image, weights=wins[d, a] - expected, minlength=len(pairs))
    residual = sums[pairs > 0] / pairs[pairs > 0]
    change = _mean_beyond(residual, FAR)
    tested = change.units >= LEAST_IMAGES
    return Finding(
        check=AuditCheck.OWN_PAIR,
        entry=results.attacks[a].name,
        other=results.defenses[d].name,
        measure=Measure.INTERACTION,
        change=change,
        is_tested=tested,
        note="" if tested else f"listed only: fewer than {LEAST_IMAGES} images",
    )


def _mean_beyond(values: NDArray[np.float64], margin: float) -> Change:
    """A mean over images; the test is whether it lies farther from 0 than `margin` (normal)."""
    mean = float(values.mean())
    means = [
        drawn @ values / len(values)
        for drawn in draws(len(values), ROUNDS, np.random.default_rng(0))
    ]
    low, high = np.percentile(np.concatenate(means), PERCENTILES)
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.inf
    beyond = max(0.0, abs(mean) - margin)
    p = 1.0 if not beyond else 0.0 if not error else 2 * NormalDist().cdf(-beyond / error)
    return Change(units=len(values), size=mean, low=float(low), high=float(high), p=p)


def won(results: Results) -> NDArray[np.float64]:
    """Whether each attack won each pair against each defense, float64 (D, A, P): 0 or 1.

    A missing label is no win.
    """
    labels = results.labels[results.pair_image]
    wins = (results.predictions != labels) & (results.predictions != MISSING)
    if results.target_classes is not None:
        aims = targeted(results)
        wins[:, aims] = (results.predictions == results.target_classes[results.pair_image])[
            :, aims
        ]
    rates: NDArray[np.float64] = wins.astype(np.float64)
    return rates


def _answers(results: Results, row: int) -> NDArray[np.int16]:
    """All labels of a defense: of the clean images, then of every attack's pairs."""
    return np.concatenate([results.clean_predictions[row], results.predictions[row].ravel()])
