"""What a trial is worth is what the referee's scorer says of the images it has met together."""

from dataclasses import replace

import numpy as np
import pytest

from advcomp.errors import AdvcompError, SandboxError
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import Entry, JobRecord, Results
from advcomp.scoring.scores import score
from advcomp.scoring.standings import ScoringOptions
from advcomp.tournament.outcome.collect import Collected
from advcomp.tuning.objective import joined, judged

IDS = ("a", "b", "c", "d", "e", "f")
LABELS = np.arange(6, dtype=np.int16)
WRONG = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]], bool)
"""Which of two defenses the attack fools on which image."""


def results(images: list[int], attack: Verdict = Verdict.OK) -> Results:
    """Of one attack at two budgets, which do the same, on some of six images."""
    labels = LABELS[images]
    pairs = np.tile(np.arange(len(images)), 2)
    answers = np.where(WRONG[:, images], labels + 1, labels).astype(np.int16)
    return Results(
        image_ids=tuple(IDS[i] for i in images),
        labels=labels,
        target_classes=None,
        pair_image=pairs,
        pair_max_epsilon=np.repeat([8, 16], len(images)),
        attacks=(Entry(name="fool", type=SubmissionType.ATTACK, verdict=attack, notes=("bad",)),),
        defenses=tuple(Entry(name=name, type=SubmissionType.DEFENSE) for name in ("p", "q")),
        exists=np.ones((1, 2 * len(images)), bool),
        predictions=np.tile(answers, 2)[:, None],
        clean_predictions=np.stack([labels, labels]),
        infra_pairs=np.zeros(2 * len(images), bool),
        infra_images=np.zeros(len(images), bool),
    )


def job(images: int, seconds: float, verdict: Verdict = Verdict.OK) -> JobRecord:
    return JobRecord(
        job="j",
        submission="fool",
        stage="attack",
        shard=0,
        images=images,
        valid=images,
        verdict=verdict,
        wall_seconds=seconds,
    )


def part(images: list[int], *jobs: JobRecord, attack: Verdict = Verdict.OK) -> Collected:
    return Collected(results=results(images, attack), jobs=jobs, unfinished=(), done=())


OPTIONS = ScoringOptions(bootstrap=0)


def test_parts_are_judged_as_the_whole() -> None:
    parts = [part([1, 4]), part([0, 3, 5]), part([2])]
    together = joined([each.results for each in parts])
    whole = results([0, 1, 2, 3, 4, 5])
    assert together.image_ids == whole.image_ids
    np.testing.assert_array_equal(together.labels, whole.labels)
    found, expected = (score(each, OPTIONS.absence).attacks[0] for each in (together, whole))
    assert (found.score, found.worst_case) == (expected.score, expected.worst_case)
    got = judged(parts, "fool", OPTIONS)
    assert got.score == WRONG.mean()
    assert got.worst_case == WRONG.mean(axis=1).min()
    np.testing.assert_allclose(got.by_image, WRONG.mean(axis=0))
    assert got.by_image.mean() == pytest.approx(got.score)


def test_a_defense_is_worth_what_it_answers_rightly() -> None:
    got = judged([part([0, 3, 5]), part([1, 2, 4])], "q", OPTIONS)
    assert got.score == pytest.approx(1 - WRONG[1].mean())
    np.testing.assert_allclose(got.by_image, 1 - WRONG[1])
    assert got.clean_accuracy == 1


def test_time_is_start_up_and_images_apart_where_runs_tell() -> None:
    one = judged([part([0, 1], job(2, 3.0))], "fool", OPTIONS)
    assert one.seconds == pytest.approx(150.0)
    more = judged([part([0, 1], job(2, 3.0)), part([2, 3, 4, 5], job(4, 4.0))], "fool", OPTIONS)
    assert more.seconds == pytest.approx(2.0 + 100 * 0.5)


def test_our_own_failure_and_a_broken_entry_are_no_scores() -> None:
    with pytest.raises(SandboxError, match="INFRA"):
        judged([part([0], job(1, 1.0, Verdict.INFRA))], "fool", OPTIONS)
    with pytest.raises(AdvcompError, match="bad"):
        judged([part([0], attack=Verdict.REJECTED)], "fool", OPTIONS)


def test_an_opponent_that_leaves_images_out_is_told() -> None:
    silent = results([0, 1])
    silent = replace(silent, predictions=np.full_like(silent.predictions, -1))
    lost = Collected(results=silent, jobs=(), unfinished=(), done=())
    with pytest.raises(AdvcompError, match="none of p, q did"):
        judged([lost], "fool", OPTIONS)
