"""Differences of scores between two runs, against loops over images and resamples."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.comparison import ComparedRun, compare, comparison_json
from advcomp.scoring.intervals import PERCENTILES
from advcomp.scoring.paired import paired_differences
from advcomp.scoring.report.comparison_page import comparison_page
from advcomp.scoring.results import Entry, Results
from advcomp.scoring.standings import ScoringOptions, Standings, judge

ATTACKS = [Entry(name=name, type=SubmissionType.ATTACK, digest=name * 8) for name in "ab"]
DEFENSES = [Entry(name=name, type=SubmissionType.DEFENSE, digest=name * 8) for name in "cd"]
Play = Callable[..., Results]


def random_run(play: Play, images: int, seed: int, budgets: tuple[int, ...] = (16,)) -> Standings:
    draw = np.random.default_rng(seed)
    pairs = images * len(budgets)
    results = play(
        attacks=ATTACKS,
        defenses=DEFENSES,
        answers={
            (a.name, d.name): "".join(draw.choice(list("=x"), pairs))
            for a in ATTACKS
            for d in DEFENSES
        },
        clean={d.name: "=" * images for d in DEFENSES},
        max_epsilons=budgets,
    )
    return judge(results, ScoringOptions(bootstrap=200, seed=5))


def rate(standings: Standings, attack: int, drawn: np.ndarray) -> float:
    """An attack's score with image k taken drawn[k] times."""
    results, won, chances = standings.results, 0.0, 0.0
    for pair, image in enumerate(results.pair_image):
        if image < len(drawn):
            for answer in results.predictions[:, attack, pair]:
                won += drawn[image] * (answer != results.labels[image])
                chances += drawn[image]
    return won / chances


def test_differences_and_intervals_are_those_of_loops_over_common_images(play: Play) -> None:
    first, second = random_run(play, 8, 1), random_run(play, 6, 2, budgets=(4, 16))
    found = paired_differences(first, second)
    assert [row.submission for row in found] == ["a", "b", "c", "d"]
    draw = np.random.default_rng(5)
    resamples = [np.bincount(draw.integers(6, size=6), minlength=6) for _ in range(200)]
    for attack, row in enumerate(found[:2]):
        every = np.ones(6)
        assert row.images == 6
        assert row.first == pytest.approx(rate(first, attack, every))
        assert row.difference == pytest.approx(
            rate(second, attack, every) - rate(first, attack, every)
        )
        gaps = [rate(second, attack, r) - rate(first, attack, r) for r in resamples]
        assert (row.low, row.high) == pytest.approx(tuple(np.percentile(gaps, PERCENTILES)))


def test_a_run_does_not_differ_from_itself(play: Play) -> None:
    run = random_run(play, 8, 1)
    for row in paired_differences(run, run):
        assert (row.difference, row.low, row.high) == (0, 0, 0)


def test_images_with_other_labels_are_not_common(play: Play) -> None:
    first, second = random_run(play, 8, 1), random_run(play, 8, 1)
    labels = second.results.labels.copy()
    labels[:3] = 9
    other = judge(replace(second.results, labels=labels), second.options)
    assert {row.images for row in paired_differences(first, other)} == {5}
    labels[:] = 9
    other = judge(replace(second.results, labels=labels), second.options)
    assert paired_differences(first, other) == ()


def test_runs_without_a_common_image_are_told_so(play: Play) -> None:
    first, second = random_run(play, 8, 1), random_run(play, 8, 1)
    strange = replace(second.results, image_ids=tuple(f"else-{k}" for k in range(8)))
    runs = [
        ComparedRun(name=name, standings=standings, manifest={})
        for name, standings in (
            ("one", first),
            ("two", second),
            ("three", judge(strange, second.options)),
        )
    ]
    comparison = compare(runs)
    assert comparison.common_images == (8, 0)
    assert json.loads(comparison_json(comparison))["common_images"] == [8, 0]
    assert {row.differences[1] for row in comparison.scores} == {None}
    page = comparison_page(comparison)
    assert "(8 images in common with run 1)" in page
    assert "(no image in common with run 1, so no difference to tell)" in page


def test_what_differs_is_told_and_nothing_else(play: Play) -> None:
    first, second = random_run(play, 4, 1), random_run(play, 4, 1)
    manifest = {"seed": 1, "waves": [1], "limits": {"cpus": 1.0}}
    attacks = tuple(replace(e, name="new") if e.name == "b" else e for e in ATTACKS)
    renamed = judge(replace(second.results, attacks=attacks), second.options)
    same = ComparedRun(name="one", standings=first, manifest=manifest)
    other = ComparedRun(
        name="two",
        standings=renamed,
        manifest={"seed": 1, "waves": [2], "limits": {"cpus": 2.0}, "more": True},
    )
    comparison = compare([same, other, same])
    assert [(row.key, row.values) for row in comparison.settings] == [
        ("limits.cpus", ("1.0", "2.0", "1.0")),
        ("more", (None, "true", None)),
    ]
    (match,) = comparison.entries
    assert [entry and entry.name for entry in match.entries] == ["b", "new", "b"]
    assert [row.submission for row in comparison.scores] == ["a", "b", "c", "d"]
    gaps = [other and other.difference for row in comparison.scores for other in row.differences]
    assert gaps == [0] * 8
    nothing = compare([same, same])
    assert (nothing.settings, nothing.entries) == ((), ())
