"""Small tournaments, written down as strings of answers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from advcomp.rules.threat import Schedule, schedule_pairs
from advcomp.scoring.results import MISSING, Entry, Results

LABEL, TARGET, OTHER = 1, 2, 3
ANSWERS = {"=": LABEL, "t": TARGET, "x": OTHER, ".": MISSING, "!": MISSING}


@pytest.fixture
def play() -> Callable[..., Results]:
    """Makes the results of a tournament from one string of answers per attack and defense.

    A string has one character per pair (by budget, then by image): `=` is the true label, `t` the
    target class, `x` another one, `.` no label, `!` no adversarial image.
    """
    return _play


def _play(
    *,
    attacks: Sequence[Entry],
    defenses: Sequence[Entry],
    answers: Mapping[tuple[str, str], str],
    clean: Mapping[str, str],
    max_epsilons: Sequence[int] = (16,),
    schedule: Schedule = Schedule.GRID,
    infra_pairs: Sequence[int] = (),
    infra_images: Sequence[int] = (),
    target_classes: bool = True,
) -> Results:
    images = max(map(len, clean.values()), default=1)
    pairs = schedule_pairs(images, max_epsilons, schedule)
    exists = [
        [all(answers[a.name, d.name][p] != "!" for d in defenses) for p in range(len(pairs))]
        for a in attacks
    ]
    return Results(
        image_ids=tuple(f"image-{i:04d}" for i in range(images)),
        labels=np.full(images, LABEL, np.int16),
        target_classes=np.full(images, TARGET, np.int16) if target_classes else None,
        pair_image=np.array([pair.image for pair in pairs], np.intp),
        pair_max_epsilon=np.array([pair.max_epsilon for pair in pairs], np.int64),
        attacks=tuple(attacks),
        defenses=tuple(defenses),
        exists=np.array(exists, bool).reshape(len(attacks), len(pairs)),
        predictions=np.array(
            [[_labels(answers[a.name, d.name]) for a in attacks] for d in defenses], np.int16
        ).reshape(len(defenses), len(attacks), len(pairs)),
        clean_predictions=np.array([_labels(clean[d.name]) for d in defenses], np.int16).reshape(
            len(defenses), images
        ),
        infra_pairs=_flags(len(pairs), infra_pairs),
        infra_images=_flags(images, infra_images),
    )


def _labels(answers: str) -> list[int]:
    return [ANSWERS[answer] for answer in answers]


def _flags(length: int, indices: Sequence[int]) -> NDArray[np.bool_]:
    flags = np.zeros(length, bool)
    flags[list(indices)] = True
    return flags
