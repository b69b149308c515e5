"""Intervals against resampling done by hand, exact bounds, and simulated tournaments."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring import intervals
from advcomp.scoring.intervals import Interval, bootstrap
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import Absence, score


def tournament(wins: NDArray[np.bool_], budgets: int = 1, targeted: int = 0) -> Results:
    """Attacks that win (label 2, the target class) or lose (label 1, the true one).

    Args:
        wins: bool (D, A, P), pairs by budget, then by image.
        targeted: How many of the attacks, the last ones, are targeted.
    """
    defenses, attacks, pairs = wins.shape
    images = pairs // budgets
    kinds = [SubmissionType.ATTACK] * (attacks - targeted)
    kinds += [SubmissionType.TARGETED_ATTACK] * targeted
    return Results(
        image_ids=tuple(map(str, range(images))),
        labels=np.ones(images, np.int16),
        target_classes=np.full(images, 2, np.int16),
        pair_image=np.tile(np.arange(images), budgets),
        pair_max_epsilon=np.repeat(np.arange(1, budgets + 1), images),
        attacks=tuple(Entry(name=f"a{i}", type=kind) for i, kind in enumerate(kinds)),
        defenses=tuple(Entry(name=f"d{i}", type=SubmissionType.DEFENSE) for i in range(defenses)),
        exists=np.ones((attacks, pairs), bool),
        predictions=np.where(wins, 2, 1).astype(np.int16),
        clean_predictions=np.ones((defenses, images), np.int16),
        infra_pairs=np.zeros(pairs, bool),
        infra_images=np.zeros(images, bool),
    )


def in_teams(
    results: Results, attacks: Sequence[str | None], defenses: Sequence[str | None]
) -> Results:
    def named(entries: Sequence[Entry], teams: Sequence[str | None]) -> tuple[Entry, ...]:
        return tuple(replace(e, team=team) for e, team in zip(entries, teams, strict=True))

    return replace(
        results,
        attacks=named(results.attacks, attacks),
        defenses=named(results.defenses, defenses),
    )


def drawn(results: Results, images: NDArray[np.int64]) -> Results:
    """The tournament on these images, all pairs of each, as often as each occurs."""
    pairs = np.concatenate([np.flatnonzero(results.pair_image == image) for image in images])
    position = np.concatenate(
        [np.full((results.pair_image == k).sum(), i) for i, k in enumerate(images)]
    )
    assert results.target_classes is not None
    return replace(
        results,
        image_ids=tuple(results.image_ids[k] for k in images),
        labels=results.labels[images],
        target_classes=results.target_classes[images],
        pair_image=position,
        pair_max_epsilon=results.pair_max_epsilon[pairs],
        exists=results.exists[:, pairs],
        predictions=results.predictions[:, :, pairs],
        clean_predictions=results.clean_predictions[:, images],
        infra_pairs=results.infra_pairs[pairs],
        infra_images=results.infra_images[images],
    )


@pytest.mark.parametrize("absence", Absence)
@pytest.mark.parametrize("infra", [False, True])
@pytest.mark.parametrize("opponents", Opponents)
def test_intervals_equal_scoring_every_resample_from_scratch(
    absence: Absence, infra: bool, opponents: Opponents
) -> None:
    generator = np.random.default_rng(7)
    results = tournament(generator.random((3, 4, 24)) < 0.6, budgets=2, targeted=2)
    results = in_teams(
        results, attacks=["red", None, "blue", "red"], defenses=["red", "red", None]
    )
    if absence is Absence.DEV_TOOLKIT:  # where nobody's completeness hangs on what is drawn
        results.predictions[generator.random((3, 4, 24)) < 0.2] = MISSING
    if infra:
        ours = np.isin(np.arange(24), [0, 3, 15, 20])  # image 3 is left out of both budgets
        results = replace(results, infra_pairs=ours)
    units = np.flatnonzero(np.bincount(results.pair_image, weights=~results.infra_pairs))
    resampling, rounds = np.random.default_rng(5), 40
    samples = [
        score(
            drawn(results, units[resampling.integers(len(units), size=len(units))]),
            absence,
            opponents,
        )
        for _ in range(rounds)
    ]
    found = bootstrap(results, score(results, absence, opponents), rounds=rounds, seed=5)
    for i, interval in enumerate(found):
        values = [float(sample.entries[i].score or 0) for sample in samples]
        low, high = np.percentile(values, [2.5, 97.5])
        if absence.counts:
            low, high = np.floor(low), np.ceil(high)
        assert (interval.score_low, interval.score_high) == pytest.approx((low, high))
        ranks = [sample.entries[i].rank for sample in samples]
        if None in ranks:  # under dev-toolkit, for less than full coverage
            assert (interval.rank_low, interval.rank_high) == (None, None)
            continue
        low, high = np.percentile(np.array(ranks, float), [2.5, 97.5])
        assert (interval.rank_low, interval.rank_high) == (np.floor(low), np.ceil(high))


def test_the_same_seed_gives_the_same_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    results = tournament(np.random.default_rng(0).random((2, 3, 50)) < 0.5)
    scores = score(results, Absence.PAPER)
    found = bootstrap(results, scores, rounds=30, seed=1)
    assert bootstrap(results, scores, rounds=30, seed=1) == found
    assert bootstrap(results, scores, rounds=30, seed=2) != found
    monkeypatch.setattr(intervals, "BATCH", 7)
    assert bootstrap(results, scores, rounds=30, seed=1) == found


@pytest.mark.parametrize("images", [1, 10, 300])
def test_where_all_images_agree_the_bound_is_clopper_and_pearsons(images: int) -> None:
    wins = np.zeros((2, 3, images), bool)
    wins[:, 1] = True
    wins[0, 2] = True
    results = tournament(wins)
    never, always, half, *defenses = bootstrap(
        results, score(results, Absence.PAPER), rounds=10, seed=0
    )
    none = binomtest(0, images).proportion_ci(0.95, method="exact")
    every = binomtest(images, images).proportion_ci(0.95, method="exact")
    assert (never.score_low, never.score_high) == pytest.approx((none.low, none.high))
    assert (always.score_low, always.score_high) == pytest.approx((every.low, every.high))
    assert (half.score_low, half.score_high) == pytest.approx((every.low / 2, (1 + none.high) / 2))
    third = 1 / 3
    assert defenses[0].score_low == pytest.approx(third * every.low)
    assert (never.rank_low, never.rank_high) == (3, 3)
    counted = bootstrap(results, score(results, Absence.EVAL_INFRA), rounds=10, seed=0)[0]
    assert (counted.score_low, counted.score_high) == (0, np.ceil(2 * images * none.high))
    assert isinstance(counted.score_high, int)


def test_images_of_unequal_numbers_of_pairs_agree_by_rate() -> None:
    """The attack wins everything; one image has one scored pair, the others two."""
    results = replace(
        tournament(np.ones((1, 1, 20), bool), budgets=2), infra_pairs=np.arange(20) == 0
    )
    (attack, _) = bootstrap(results, score(results, Absence.PAPER), rounds=10, seed=0)
    assert attack.score_low == pytest.approx(0.025 ** (1 / 10))
    assert attack.score_high == 1


def test_entries_are_resampled_together() -> None:
    """`a1` wins wherever `a0` does and on ten images more: it is first in every resample."""
    wins = np.zeros((1, 2, 200), bool)
    wins[0, 0, :90] = True
    wins[0, 1, :100] = True
    results = tournament(wins)
    a0, a1, _ = bootstrap(results, score(results, Absence.PAPER), rounds=200, seed=0)
    assert a1.score_low is not None
    assert a0.score_high is not None
    assert a1.score_low < a0.score_high
    assert (a0.rank_low, a0.rank_high) == (2, 2)
    assert (a1.rank_low, a1.rank_high) == (1, 1)


def test_an_incomplete_entry_stays_incomplete_in_every_resample() -> None:
    """One missing image expels `a0` from scoring defenses, also where it is not drawn."""
    wins = np.zeros((1, 2, 30), bool)
    wins[0, 1] = True
    results = tournament(wins)
    exists, predictions = results.exists.copy(), results.predictions.copy()
    exists[0, 4], predictions[0, 0, 4] = False, MISSING
    results = replace(results, exists=exists, predictions=predictions)
    defense = bootstrap(results, score(results, Absence.PAPER), rounds=100, seed=0)[2]
    assert defense.score_low == 0
    assert defense.score_high == pytest.approx(1 - 0.025 ** (1 / 30))


def test_there_is_no_interval_without_a_score_a_rank_or_a_round() -> None:
    results = tournament(np.random.default_rng(0).random((1, 2, 20)) < 0.5)
    attacks = (replace(results.attacks[0], verdict=Verdict.INFRA), results.attacks[1])
    unranked = replace(results, attacks=attacks)
    a0, a1, _ = bootstrap(unranked, score(unranked, Absence.PAPER), rounds=20, seed=0)
    assert a0.score_low is not None
    assert (a0.rank_low, a0.rank_high) == (None, None)
    assert (a1.rank_low, a1.rank_high) == (1, 1)
    alone = replace(results, infra_pairs=np.ones(20, bool))
    assert set(bootstrap(alone, score(alone, Absence.PAPER), rounds=20, seed=0)) == {Interval()}
    scores = score(results, Absence.PAPER)
    assert set(bootstrap(results, scores, rounds=0, seed=0)) == {Interval()}


@pytest.mark.parametrize(
    ("rate", "least"),
    [
        (0.002, 0.99),
        (0.01, 0.9),
        (0.05, 0.9),
        (0.3, 0.92),
        (0.5, 0.92),
        (0.95, 0.9),
        (0.998, 0.99),
    ],
)
def test_intervals_cover_the_true_rate(rate: float, least: float) -> None:
    """500 attacks of one true rate; on every image all four budgets go the same way.

    Were pairs the unit, intervals would be half as wide and cover less than 70 %.
    """
    images, attacks = 200, 500
    wins = np.random.default_rng(3).random((1, attacks, images)) < rate
    results = tournament(np.tile(wins, 4), budgets=4)
    found = bootstrap(results, score(results, Absence.PAPER), rounds=300, seed=0)[:attacks]
    bounds = [(i.score_low, i.score_high) for i in found]
    covered = [low <= rate <= high for low, high in bounds if low is not None and high is not None]
    assert least <= np.mean(covered) <= 1


def test_where_our_failures_leave_no_pair_to_score_there_is_no_interval() -> None:
    results = tournament(np.ones((2, 3, 4), bool))
    lost = replace(results, infra_pairs=np.ones(4, bool), infra_images=np.ones(4, bool))
    scores = score(lost, Absence.PAPER)
    assert bootstrap(lost, scores, rounds=5, seed=0) == (Interval(),) * 5
