"""Opponents by team: against a second implementation, by hand, against who would bend ranks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.opponents import Fit, Opponents, team_weights
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import Absence, Scores, ranks_with, score

ATTACK, TARGETED, DEFENSE = SubmissionType

Teams = Sequence[str | None]


def entries(kind: SubmissionType, teams: Teams) -> tuple[Entry, ...]:
    return tuple(Entry(name=f"{kind[0]}{i}", type=kind, team=team) for i, team in enumerate(teams))


def tournament(
    rates: NDArray[np.float64], attacks: Teams, defenses: Teams, images: int
) -> Results:
    """Attack a beats defense d on the first rates[d, a] of the images."""
    wins = np.arange(images) < np.round(rates * images)[:, :, None]
    return Results(
        image_ids=tuple(f"{i:05d}" for i in range(images)),
        labels=np.ones(images, np.int16),
        target_classes=None,
        pair_image=np.arange(images),
        pair_max_epsilon=np.full(images, 8),
        attacks=entries(ATTACK, attacks),
        defenses=entries(DEFENSE, defenses),
        exists=np.ones((len(attacks), images), bool),
        predictions=np.where(wins, 2, 1).astype(np.int16),
        clean_predictions=np.ones((len(defenses), images), np.int16),
        infra_pairs=np.zeros(images, bool),
        infra_images=np.zeros(images, bool),
    )


def by_least_squares(
    rates: NDArray[np.float64],
    played: NDArray[np.bool_],
    u: NDArray[np.int64],
    w: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The additive model through numpy's solver: one line for every pair that was played."""
    n, m = rates.shape
    lines, values = [], []
    for i, j in np.argwhere(played):
        line = np.zeros(n + m)
        line[[i, n + j]] = 1
        weight = np.sqrt(u[i] * w[j])
        lines.append(weight * line)
        values.append(weight * rates[i, j])
    effects = np.linalg.lstsq(np.array(lines), np.array(values))[0]
    estimates: NDArray[np.float64] = np.clip(effects[:n, None] + effects[None, n:], 0, 1)
    return estimates


@given(data=st.data())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_estimates_equal_least_squares_over_every_pair(data: st.DataObject) -> None:
    n, m = data.draw(st.integers(2, 6)), data.draw(st.integers(2, 6))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rates, played = generator.random((n, m)), generator.random((n, m)) < 0.7
    u, w = generator.integers(1, 4, n), generator.integers(1, 4, m)
    fit = Fit.of(played, u, w)
    found = fit.estimates(fit.row_sums(rates), fit.column_sums(rates))
    expected = by_least_squares(rates, played, u, w) if played.any() else rates
    assert (np.isnan(found) == ~fit.connected).all()
    assert np.allclose(found[fit.connected], expected[fit.connected], atol=1e-9)
    assert fit.connected[played & played.any()].all()


def test_additive_rates_are_estimated_as_they_are() -> None:
    rows, columns = np.array([0.1, 0.2, 0.35]), np.array([0.0, 0.15, 0.3, 0.4])
    rates = rows[:, None] + columns
    played = np.ones(rates.shape, bool)
    played[0, 0] = played[2, 3] = played[1, 1] = False
    fit = Fit.of(played, np.ones(3, np.int64), np.ones(4, np.int64))
    assert np.allclose(fit.estimates(fit.row_sums(rates), fit.column_sums(rates)), rates)


def test_members_of_a_team_share_the_weight_of_one() -> None:
    team = entries(DEFENSE, ["red", "red", "red", None, "blue", "blue", None])
    weights, scale = team_weights(team, np.array([1, 1, 1, 1, 1, 0, 0], bool))
    assert (weights / scale).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 1, 0, 0])
    assert scale == 3


def test_a_small_tournament_by_hand() -> None:
    """red has a0 and d0; rates are additive but for d0, which a0 never meets: 0.5 + 0.1 - 0.2."""
    rates = np.array([[0.9, 0.4], [0.3, 0.2], [0.5, 0.4]])  # [0, 0] is not played
    results = tournament(rates, ["red", None], ["red", None, None], images=100)
    attacks, defenses = (
        score(results, Absence.PAPER).attacks,
        score(results, Absence.PAPER).defenses,
    )
    estimated = 0.4 + 0.4 - 0.3  # column means of d1 and d2: a0 is 0.1 above a1
    assert float(attacks[0].score or 0) == pytest.approx((estimated + 0.3 + 0.5) / 3)
    assert float(attacks[1].score or 0) == pytest.approx((0.4 + 0.2 + 0.4) / 3)
    assert float(defenses[0].score or 0) == pytest.approx((0.6 + 0.5) / 2)
    left_out = score(results, Absence.PAPER, Opponents.ENTRIES).attacks[0]
    assert float(left_out.score or 0) == pytest.approx((0.3 + 0.5) / 2)


def test_what_is_not_connected_is_left_out_and_said() -> None:
    """Two teams of one attack and one defense: nothing tells how an attack does on its own."""
    results = tournament(np.array([[0.9, 0.4], [0.3, 0.2]]), ["x", "y"], ["x", "y"], images=10)
    scores = score(results, Absence.PAPER)
    assert [float(s.score or 0) for s in scores.attacks] == [0.3, 0.4]
    assert not scores.attack_side.estimated.any()
    assert scores.attack_side.left_out.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_a_side_without_entries_connects_nobody(shape: tuple[int, int]) -> None:
    rows, columns = (np.ones(size, np.int64) for size in shape)
    fit = Fit.of(np.ones(shape, np.bool_), rows, columns)
    assert fit.connected.shape == shape
    assert fit.connected.dtype == np.bool_
    assert fit.estimates(np.zeros(shape[0]), np.zeros(shape[1])).shape == shape


@pytest.mark.parametrize("absence", Absence)
def test_both_rules_agree_where_everybody_is_a_team(absence: Absence) -> None:
    rates = np.random.default_rng(1).random((4, 5))
    for attacks, defenses in ([None] * 5, [None] * 4), (list("abcde"), list("fghi")):
        results = tournament(rates, attacks, defenses, images=40)
        teams, each = (score(results, absence, rule) for rule in Opponents)
        assert [(s.score, s.rank, s.gain_over_clean) for s in teams.entries] == [
            (s.score, s.rank, s.gain_over_clean) for s in each.entries
        ]


@pytest.mark.parametrize("absence", Absence)
def test_ten_copies_of_a_team_of_one_weigh_as_one(absence: Absence) -> None:
    rates = np.random.default_rng(2).random((3, 4))
    one = score(tournament(rates, [None] * 4, ["x", None, None], 50), absence)
    many = np.concatenate([rates, np.repeat(rates[:1], 9, axis=0)])
    teams = ["x", None, None, *["x"] * 9]
    ten = score(tournament(many, [None] * 4, teams, 50), absence)
    assert [s.score for s in ten.attacks] == [s.score for s in one.attacks]


def test_an_incomplete_entry_is_left_out_for_everybody_and_what_that_changes_is_known() -> None:
    rates = np.array([[0.9, 0.1, 0.5], [0.3, 0.4, 0.35], [0.2, 0.3, 0.25]])
    results = tournament(rates, ["red", None, None], ["red", None, None], images=100)
    results.predictions[0, 1, 5] = MISSING
    scores = score(results, Absence.PAPER)
    assert scores.expelled == ("d0",)
    assert scores.attack_side.weights.tolist() == [0, 1, 1]
    assert [s.rank for s in scores.attacks] == [3, 1, 2]
    assert [*ranks_with(results, scores, "d0")][:3] == [3, 2, 1]
    whole = tournament(rates, ["red", None, None], ["red", None, None], images=100)
    assert [s.rank for s in score(whole, Absence.PAPER).attacks] == [3, 2, 1]


def ranks(scores: Scores, team: str) -> dict[SubmissionType, int]:
    """The best rank of a team in each track."""
    best: dict[SubmissionType, int] = {}
    for entry in scores.entries:
        if entry.entry.team == team and entry.rank is not None:
            kind = entry.entry.type
            best[kind] = min(entry.rank, best.get(kind, entry.rank))
    return best


def test_the_clones_of_the_strongest_defense_bend_no_rank() -> None:
    """The weakest of five attacks had rank 2 of 5 by them under the rule of 2017."""
    generator = np.random.default_rng(3)
    base = np.linspace(0.3, 0.7, 5)[None] + np.array([-0.25, -0.05, 0.1, 0.2])[:, None]
    rates = np.clip(base + generator.normal(0, 0.02, (4, 5)), 0, 1)
    clones = np.concatenate([rates, np.repeat(rates[:1], 5, axis=0)])
    teams: Teams = ["red", None, None, None, None]
    with_clones = tournament(clones, teams, [None] * 4 + ["red"] * 5, images=200)
    without = tournament(rates, teams, [None] * 4, images=200)
    assert ranks(score(without, Absence.PAPER), "red")[ATTACK] == 5
    assert ranks(score(with_clones, Absence.PAPER), "red")[ATTACK] == 5
    bent = score(with_clones, Absence.PAPER, Opponents.ENTRIES)
    assert ranks(bent, "red")[ATTACK] < 5


def test_a_targeted_attack_is_fitted_with_its_own_kind() -> None:
    rates = np.array([[0.9, 0.4, 0.2], [0.3, 0.2, 0.1], [0.5, 0.4, 0.1]])
    results = tournament(rates, ["red", None, "red"], ["red", None, None], images=100)
    kinds = replace(results.attacks[2], type=TARGETED)
    results = replace(
        results,
        attacks=(*results.attacks[:2], kinds),
        target_classes=np.full(100, 2, np.int16),
    )
    scores = score(results, Absence.PAPER)
    # Alone of its kind it has nobody to compare its defense with: the pair is left out.
    assert not scores.attack_side.estimated[2].any()
    assert scores.attack_side.estimated[0].tolist() == [True, False, False]
    assert float(scores.attacks[2].score or 0) == pytest.approx(0.1)
