"""What replays tell: the answers of before beside those of after, as findings.

A defense is compared by its labels, an attack by its images. An entry that was declared
randomised is compared by rates: its right answers, or how far its images are from the clean ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.audit.change import Change, by_unit, moved, share
from advcomp.scoring.audit.finding import (
    TOLERANCE,
    TOLERANCE_NUDGED,
    AuditCheck,
    Finding,
    Measure,
)
from advcomp.scoring.results import MISSING, Results
from advcomp.scoring.scores import targeted

BY_NAMES = {
    AuditCheck.RENAMED: "other images under other file names",
    AuditCheck.REORDERED: "other images in another order",
    AuditCheck.SUBSET: "other images beside fewer others",
}
"""What an attack may do without gain: it is told, and not flagged for it."""
SEEDED = "an attack that is seeded once a run, or by file names, does so"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """Labels of a defense for n images, before and after.

    Args:
        image: intp (n,), which source image each is of.
        attack: intp (n,), whose it is; -1 for a clean one.
        before, after: int16 (n,), `MISSING` where there is none.
    """

    image: NDArray[np.intp]
    attack: NDArray[np.intp]
    before: NDArray[np.int16]
    after: NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """What an attack made of n images, before and after.

    Args:
        differs: bool (n,), whether any pixel does, or one of the two is missing.
        before, after: float64 (n,), the mean perturbation in pixel levels of what the attack was
            shown; NaN without an image.
    """

    differs: NDArray[np.bool_]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def of_defense(
    check: AuditCheck,
    entry: str,
    labels: Labels,
    truth: NDArray[np.int16],
    *,
    randomised: bool,
    seed: int,
    note: str = "",
) -> Finding:
    """How the labels of a defense differ under one condition.

    Args:
        truth: int16 (N,), of every source image.
        seed: Of the resamples that intervals of rates come from.
    """
    changed = int((labels.before != labels.after).sum())
    if randomised:
        right = truth[labels.image]
        return Finding(
            check=check,
            entry=entry,
            measure=Measure.CORRECT,
            change=_moved(labels.image, labels.before == right, labels.after == right, seed=seed),
            is_tested=True,
            note=_said(f"declared randomised; {changed} of {len(labels.image)} labels", note),
        )
    tolerance = TOLERANCE_NUDGED if check is AuditCheck.NUDGED else TOLERANCE
    return Finding(
        check=check,
        entry=entry,
        measure=Measure.LABELS_CHANGED,
        change=share(changed, len(labels.image), tolerance=tolerance),
        is_tested=True,
        note=note,
    )


def gain_of_defense(entry: str, labels: Labels, truth: NDArray[np.int16], seed: int) -> Finding:
    """Whether a defense gives fewer right answers once its images are renamed."""
    right = truth[labels.image]
    return Finding(
        check=AuditCheck.GAIN,
        entry=entry,
        measure=Measure.CORRECT,
        change=_moved(
            labels.image, labels.before == right, labels.after == right, seed=seed, falls=True
        ),
        is_tested=True,
        note="once the images that it is shown are renamed",
    )


def gains_of_attacks(results: Results, labels: Labels, seed: int, note: str) -> Iterator[Finding]:
    """Whether attacks win less often against all defenses together.

    Args:
        labels: Of all defenses, for images of all attacks.
        note: Where the images are others.
    """
    hits, targets = targeted(results), results.target_classes
    for number in np.unique(labels.attack[labels.attack >= 0]).tolist():
        own = labels.attack == number
        image = labels.image[own]
        if hits[number] and targets is not None:
            before, after = (each[own] == targets[image] for each in (labels.before, labels.after))
        else:
            before, after = (
                (each[own] != results.labels[image]) & (each[own] != MISSING)
                for each in (labels.before, labels.after)
            )
        yield Finding(
            check=AuditCheck.GAIN,
            entry=results.attacks[number].name,
            measure=Measure.WINS,
            change=_moved(image, before, after, seed=seed, falls=True),
            is_tested=True,
            note=note,
        )


def of_attack(
    check: AuditCheck, entry: str, images: Images, *, randomised: bool, seed: int, note: str = ""
) -> Finding:
    """How the images of an attack differ under one condition."""
    differing, units = int(images.differs.sum()), len(images.differs)
    if check is AuditCheck.NUDGED:
        return _weaker(entry, images, seed, note)
    if randomised:
        both = ~np.isnan(images.before) & ~np.isnan(images.after)
        return Finding(
            check=check,
            entry=entry,
            measure=Measure.PERTURBATION,
            change=moved(images.before[both], images.after[both], seed=seed),
            is_tested=check is not AuditCheck.SUBSET,
            note=_said(f"declared randomised; {differing} of {units} images", note),
        )
    told = check in BY_NAMES
    return Finding(
        check=check,
        entry=entry,
        measure=Measure.IMAGES_CHANGED,
        change=share(differing, units, tolerance=None if told else TOLERANCE),
        is_tested=not told,
        note="; ".join(filter(None, [_told(check) if told and differing else "", note])),
    )


def _weaker(entry: str, images: Images, seed: int, note: str) -> Finding:
    """Whether an attack does little to images that it cannot have seen; no image counts as none.

    By halves and doubles: what is clipped at black and white may move every image by a hair.
    """
    before, after = np.nan_to_num(images.before), np.nan_to_num(images.after)
    steps = np.zeros(len(before))
    steps[after > 2 * before] = 1
    steps[before > 2 * after] = -1
    return Finding(
        check=AuditCheck.NUDGED,
        entry=entry,
        measure=Measure.WEAKER,
        change=moved(np.zeros(len(steps)), steps, seed=seed, falls=True),
        is_tested=True,
        note=note,
    )


def together(parts: Sequence[Labels]) -> Labels:
    """Labels of several replays as those of one."""
    none = np.zeros(0, np.intp)
    return Labels(
        image=np.concatenate([none, *(part.image for part in parts)]),
        attack=np.concatenate([none, *(part.attack for part in parts)]),
        before=np.concatenate([none.astype(np.int16), *(part.before for part in parts)]),
        after=np.concatenate([none.astype(np.int16), *(part.after for part in parts)]),
    )


def _moved(
    image: NDArray[np.intp],
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    *,
    seed: int,
    falls: bool = False,
) -> Change:
    first, second = (by_unit(won.astype(np.float64), image) for won in (before, after))
    return moved(first, second, seed=seed, falls=falls)


def _told(check: AuditCheck) -> str:
    return f"{BY_NAMES[check]}; {SEEDED}"


def _said(what: str, note: str) -> str:
    return f"{what} differ" + (f"; {note}" if note else "")
