"""All that a tournament found out, as arrays: the one input of scores, rankings and reports."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict

MISSING = -1
"""The stored label of an image that a defense did not classify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a tournament and how it ran.

    Args:
        verdict: The first, in the order of `Verdict`, of its jobs'.
        wave: Number of the wave that its images were classified in, or that it first classified
            (1 is the first); None where it has no result.
        seconds_per_100_images: For each of its runs, 100 x wall seconds / images.
        projected_images: Images in which the projection changed a pixel (attacks only).
        notes: What the organiser should know, e.g. why it was REJECTED.
    """

    name: str
    type: SubmissionType
    digest: str = ""
    team: str | None = None
    baseline: bool = False
    verdict: Verdict = Verdict.OK
    wave: int | None = None
    seconds_per_100_images: tuple[float, ...] = ()
    projected_images: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """Labels and existence of everything, for A attacks, D defenses, N images, P pairs.

    Args:
        image_ids: N ImageIds, ascending.
        labels: int16 (N,), true labels.
        target_classes: int16 (N,), or None where no targeted attack plays.
        pair_image: intp (P,), index of each pair's image.
        pair_max_epsilon: int64 (P,), budget of each pair in pixel levels.
        attacks: Non-targeted first, then targeted, each by name.
        defenses: By name.
        exists: bool (A, P), whether there is a valid adversarial image.
        predictions: int16 (D, A, P), labels, `MISSING` where there is none.
        clean_predictions: int16 (D, N), labels of the clean images.
        infra_pairs: bool (P,), pairs that lack a result because of us: nobody is scored on them.
        infra_images: bool (N,), the same for clean images.
    """

    image_ids: tuple[str, ...]
    labels: NDArray[np.int16]
    target_classes: NDArray[np.int16] | None
    pair_image: NDArray[np.intp]
    pair_max_epsilon: NDArray[np.int64]
    attacks: tuple[Entry, ...]
    defenses: tuple[Entry, ...]
    exists: NDArray[np.bool_]
    predictions: NDArray[np.int16]
    clean_predictions: NDArray[np.int16]
    infra_pairs: NDArray[np.bool_]
    infra_images: NDArray[np.bool_]
