"""All that a tournament found out, as arrays: the one input of scores, rankings and reports."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.run_times import RunTimes

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
        run_times: Start-up and time for an image apart, where its runs tell.
        projected_images: Images in which the projection changed a pixel (attacks only).
        notes: What the organiser should know, e.g. why it was REJECTED.
        refused: Whether it is REJECTED only since an audit flagged it.
        display: What the public is shown in place of its name.
        url: Where its paper or code is.
    """

    name: str
    type: SubmissionType
    digest: str = ""
    team: str | None = None
    baseline: bool = False
    verdict: Verdict = Verdict.OK
    wave: int | None = None
    seconds_per_100_images: tuple[float, ...] = ()
    run_times: RunTimes | None = None
    projected_images: int = 0
    notes: tuple[str, ...] = ()
    refused: bool = False
    display: str | None = None
    url: str | None = None


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

    def __post_init__(self) -> None:
        images, pairs = len(self.image_ids), len(self.pair_image)
        attacks, defenses = len(self.attacks), len(self.defenses)
        shapes = {
            "labels": (images,),
            "pair_max_epsilon": (pairs,),
            "exists": (attacks, pairs),
            "predictions": (defenses, attacks, pairs),
            "clean_predictions": (defenses, images),
            "infra_pairs": (pairs,),
            "infra_images": (images,),
        }
        got = {name: getattr(self, name).shape for name in shapes}
        assert got == shapes, f"expected {shapes}, got {got}"
        for attack, exists in enumerate(self.exists):
            labels = self.predictions[:, attack, ~exists]
            assert (labels == MISSING).all(), f"label of a missing image of attack {attack}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One run of a submission, as it is listed in verdicts.csv (whose columns are these fields).

    Args:
        job: A readable name.
        submission: The entry's name.
        stage: Whether images were made or classified.
        epsilon: Budget in pixel levels; None where the run holds several.
        shard: Number of the run within its stage.
        images: Images given to it.
        valid: Images for which it left a valid result.
        exit_code, signal: How its process ended; None where it did not end so.
        cpu_seconds: Processor time of all its processes; None where the sandbox cannot tell.
        max_rss_bytes: Peak memory; None where the sandbox cannot tell.
        note: What the referee has to say about it; may quote what the submission wrote.
    """

    job: str
    submission: str
    stage: Literal["attack", "defense"]
    epsilon: int | None = None
    shard: int
    images: int
    valid: int
    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    wall_seconds: float
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    note: str = ""
