"""What a trial is worth: the referee's own scores, over all parts of the images it has met."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.errors import AdvcompError, SandboxError
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import MISSING, JobRecord, Results
from advcomp.scoring.run_times import run_times
from advcomp.scoring.scores import EntryScore, score
from advcomp.scoring.standings import ScoringOptions
from advcomp.tournament.outcome.collect import Collected
from advcomp.tuning.tune_file import TunedQuantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How an entry did on the images it has met so far.

    Args:
        score, worst_case, clean_accuracy: As on a leaderboard; 0 where it has none.
        seconds: What a run over 100 images takes, as far as its runs tell.
        by_image: The share of its pairs that it won, (N,), by ImageId.
    """

    score: float
    worst_case: float
    clean_accuracy: float
    seconds: float
    verdict: Verdict
    by_image: NDArray[np.float64]

    def values(self, of: Sequence[TunedQuantity]) -> list[float]:
        """What was asked for."""
        known = {
            TunedQuantity.SCORE: self.score,
            TunedQuantity.WORST_CASE: self.worst_case,
            TunedQuantity.CLEAN_ACCURACY: self.clean_accuracy,
            TunedQuantity.SECONDS: self.seconds,
        }
        return [known[quantity] for quantity in of]


def judged(parts: Sequence[Collected], entry: str, options: ScoringOptions) -> Judged:
    """Judge an entry by what it did on some parts of the images, which share none.

    Raises:
        SandboxError: Something lacks a result because of us.
        AdvcompError: The entry breaks the contract, or no opponent did all its work.
    """
    if any(part.provisional for part in parts):
        raise SandboxError(
            f"{entry}: jobs have no result because the sandbox failed (verdict INFRA); `advcomp "
            "doctor` looks for the cause; the same command tries them again"
        )
    results = joined([part.results for part in parts])
    found = next(
        each
        for each in score(results, options.absence, options.opponents).entries
        if each.entry.name == entry
    )
    _refuse_without_a_game(results, found)
    plain = options.absence.plain
    return Judged(
        score=plain(found.score) or 0.0,
        worst_case=float(found.worst_case or 0),
        clean_accuracy=float(found.clean_accuracy or 0),
        seconds=_seconds([job for part in parts for job in part.jobs if job.submission == entry]),
        verdict=Verdict.first([_entry_in(part.results, entry) for part in parts]),
        by_image=_by_image(results, entry),
    )


def joined(parts: Sequence[Results]) -> Results:
    """The results of the same entries on images that the parts do not share, as one."""
    first = parts[0]
    ids = [name for part in parts for name in part.image_ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    place = np.empty(len(ids), np.intp)
    place[order] = np.arange(len(ids))
    offsets = np.cumsum([0, *(len(part.image_ids) for part in parts)])[:-1]
    targets = [part.target_classes for part in parts if part.target_classes is not None]
    return Results(
        image_ids=tuple(ids[i] for i in order),
        labels=np.concatenate([part.labels for part in parts])[order],
        target_classes=np.concatenate(targets)[order] if targets else None,
        pair_image=place[
            np.concatenate([p.pair_image + at for p, at in zip(parts, offsets, strict=True)])
        ],
        pair_max_epsilon=np.concatenate([part.pair_max_epsilon for part in parts]),
        attacks=first.attacks,
        defenses=first.defenses,
        exists=np.concatenate([part.exists for part in parts], axis=1),
        predictions=np.concatenate([part.predictions for part in parts], axis=2),
        clean_predictions=np.concatenate([part.clean_predictions for part in parts], axis=1)[
            :, order
        ],
        infra_pairs=np.concatenate([part.infra_pairs for part in parts]),
        infra_images=np.concatenate([part.infra_images for part in parts])[order],
    )


def _refuse_without_a_game(results: Results, found: EntryScore) -> None:
    if found.entry.verdict is Verdict.REJECTED:
        raise AdvcompError(*found.entry.notes)
    others = (*results.attacks, *results.defenses)
    if rejected := [each for each in others if each.verdict is Verdict.REJECTED]:
        raise AdvcompError(*(note for each in rejected for note in each.notes))
    if found.score is None:
        names = ", ".join(each.name for each in others if each.name != found.entry.name)
        raise AdvcompError(
            f"{found.entry.name}: expected an opponent that does all its work; none of {names} "
            "did, so that nobody is scored on them"
        )


def _entry_in(results: Results, name: str) -> Verdict:
    entries = (*results.attacks, *results.defenses)
    return next(each.verdict for each in entries if each.name == name)


def _by_image(results: Results, entry: str) -> NDArray[np.float64]:
    """The mean over opponents and pairs, for each of the N images."""
    attacks = [each.name for each in results.attacks]
    if entry in attacks:
        labels = results.predictions[:, attacks.index(entry)]
        if results.attacks[attacks.index(entry)].type is SubmissionType.TARGETED_ATTACK:
            assert results.target_classes is not None
            won = labels == results.target_classes[results.pair_image]
        else:
            won = (labels != results.labels[results.pair_image]) & (labels != MISSING)
    else:
        names = [each.name for each in results.defenses]
        labels = results.predictions[names.index(entry)]
        won = labels == results.labels[results.pair_image]
    sums = np.bincount(results.pair_image, won.mean(axis=0), len(results.image_ids))
    return sums / np.bincount(results.pair_image, minlength=len(results.image_ids))


def _seconds(jobs: Sequence[JobRecord]) -> float:
    runs = [(job.images, job.wall_seconds) for job in jobs if job.images]
    told = run_times(runs)
    if told is not None:
        return told.of(100)
    images = sum(count for count, _ in runs)
    return 100 * sum(seconds for _, seconds in runs) / images if images else 0.0
