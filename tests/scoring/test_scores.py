"""Golden tournaments, worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import Schedule
from advcomp.rules.verdict import Verdict
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.results import Entry, Results
from advcomp.scoring.scores import Absence, Scores, score

Play = Callable[..., Results]

A1 = Entry(name="a1", type=SubmissionType.ATTACK)
A2 = Entry(name="a2", type=SubmissionType.ATTACK)
T1 = Entry(name="t1", type=SubmissionType.TARGETED_ATTACK)
D1 = Entry(name="d1", type=SubmissionType.DEFENSE)
D2 = Entry(name="d2", type=SubmissionType.DEFENSE)


def scored(scores: Scores) -> dict[str, Fraction | None]:
    return {s.entry.name: s.score for s in scores.entries}


def test_rates_of_complete_entries_over_several_budgets(play: Play) -> None:
    results = play(
        attacks=[A1, T1],
        defenses=[D1, D2],
        max_epsilons=(8, 16),
        # four images at 8, the same four at 16
        answers={
            ("a1", "d1"): "===x" + "=xxt",
            ("a1", "d2"): "xxxx" + "xxxx",
            ("t1", "d1"): "==tx" + "=ttx",
            ("t1", "d2"): "xttx" + "tttt",
        },
        clean={"d1": "====", "d2": "=xt="},
    )
    scores = score(results, Absence.PAPER)
    assert scored(scores) == {
        "a1": Fraction(4 + 8, 16),
        "t1": Fraction(3 + 6, 16),
        "d1": Fraction(4 + 3, 16),
        "d2": Fraction(0),
    }
    a1, t1, d1, d2 = scores.entries
    assert [a1.worst_case, t1.worst_case] == [Fraction(4, 8), Fraction(3, 8)]
    assert [d1.worst_case, d2.worst_case] == [Fraction(3, 8), Fraction(0)]
    assert a1.gain_over_clean == (Fraction(4, 8) - 0 + 1 - Fraction(2, 4)) / 2
    assert t1.gain_over_clean == (Fraction(3, 8) - 0 + Fraction(6, 8) - Fraction(1, 4)) / 2
    assert [d1.clean_accuracy, d2.clean_accuracy] == [Fraction(1), Fraction(2, 4)]
    assert [e.score for e in a1.epsilons] == [Fraction(1 + 4, 8), Fraction(3 + 4, 8)]
    assert [e.worst_case for e in t1.epsilons] == [Fraction(1, 4), Fraction(2, 4)]
    assert [e.score for e in d1.epsilons] == [Fraction(3 + 2, 8), Fraction(1 + 1, 8)]
    assert [s.rank for s in scores.entries] == [1, 1, 1, 2]


def test_round_robin_scores_each_image_at_one_budget(play: Play) -> None:
    """250 images: 0-99 and 200-249 at 8, 100-199 at 16; pairs are ordered by budget."""
    results = play(
        attacks=[A1],
        defenses=[D1, D2],
        max_epsilons=(8, 16),
        schedule=Schedule.ROUND_ROBIN,
        answers={
            ("a1", "d1"): "x" * 30 + "=" * 120 + "x" * 60 + "=" * 40,
            ("a1", "d2"): "=" * 150 + "x" * 100,
        },
        clean={"d1": "=" * 250, "d2": "x" * 50 + "=" * 200},
    )
    assert results.pair_image[[0, 99, 100, 149, 150, 249]].tolist() == [0, 99, 200, 249, 100, 199]
    a1, d1, d2 = score(results, Absence.PAPER).entries
    assert a1.score == Fraction(30 + 60 + 100, 2 * 250)
    assert [e.score for e in a1.epsilons] == [Fraction(30, 2 * 150), Fraction(60 + 100, 2 * 100)]
    assert [e.worst_case for e in a1.epsilons] == [0, Fraction(60, 100)]
    assert a1.worst_case == Fraction(90, 250)
    assert a1.gain_over_clean == (Fraction(90, 250) + Fraction(100, 250) - Fraction(50, 250)) / 2
    assert (d1.score, d2.score) == (Fraction(160, 250), Fraction(150, 250))
    assert a1.images == 250


@pytest.fixture
def holes(play: Play) -> Results:
    """`a2` lacks its second image, `t1` its last, `d2` the label of one image of `a1`."""
    return play(
        attacks=[A1, A2, T1],
        defenses=[D1, D2],
        answers={
            ("a1", "d1"): "xx==",
            ("a1", "d2"): "x=.=",
            ("a2", "d1"): "x!xx",
            ("a2", "d2"): "=!==",
            ("t1", "d1"): "tx=!",
            ("t1", "d2"): "ttt!",
        },
        clean={"d1": "====", "d2": "==x."},
    )


def test_paper_scores_over_complete_opponents_and_missing_is_0(holes: Results) -> None:
    scores = score(holes, Absence.PAPER)
    assert scores.expelled == ("a2", "t1", "d2")
    assert scored(scores) == {
        "a1": Fraction(2, 4),  # d1 only
        "a2": Fraction(3, 4),
        "t1": Fraction(1, 4),
        "d1": Fraction(2, 4),  # a1 only
        "d2": Fraction(2, 4),
    }
    assert [s.worst_case for s in scores.attacks] == [s.score for s in scores.attacks]
    assert [s.gain_over_clean for s in scores.attacks] == [s.score for s in scores.attacks]
    assert [s.coverage for s in scores.attacks] == [1, Fraction(3, 4), Fraction(3, 4)]
    assert [s.coverage for s in scores.defenses] == [1, Fraction(9, 10)]
    assert [s.images for s in scores.defenses] == [10, 10]
    assert [s.clean_accuracy for s in scores.defenses] == [1, Fraction(2, 4)]
    assert [s.rank for s in scores.entries] == [2, 1, 1, 1, 1]


def test_eval_infra_counts_what_exists(holes: Results) -> None:
    scores = score(holes, Absence.EVAL_INFRA)
    assert scores.expelled == ("a2", "t1", "d2")
    assert scored(scores) == {"a1": 2, "a2": 3, "t1": 1, "d1": 2, "d2": 2}
    worst = {s.entry.name: s.worst_case for s in scores.entries}
    assert worst == {
        "a1": Fraction(2, 4),
        "a2": Fraction(3, 3),
        "t1": Fraction(1, 3),
        "d1": Fraction(2, 4),
        "d2": Fraction(2, 3),
    }


def test_dev_toolkit_gives_what_is_missing_to_the_attack(holes: Results) -> None:
    scores = score(holes, Absence.DEV_TOOLKIT)
    assert scores.expelled == ()
    assert scored(scores) == {
        "a1": 2 + 1 + 1,
        "a2": 3 + 1 + 1,
        "t1": 1 + 3,
        "d1": 2 + 0 + 1,
        "d2": 2 + 3 + 0,
    }
    worst = {s.entry.name: s.worst_case for s in scores.entries}
    assert worst == {
        "a1": Fraction(2, 4),
        "a2": Fraction(1, 4),
        "t1": Fraction(1, 4),
        "d1": Fraction(0),
        "d2": Fraction(0),
    }
    a1, _, t1 = scores.attacks
    assert a1.gain_over_clean == (Fraction(2, 4) + Fraction(2, 4) - Fraction(2, 4)) / 2
    assert t1.gain_over_clean == (Fraction(1, 4) + Fraction(3, 4)) / 2


def test_a_label_of_an_incomplete_attack_is_needed_too(play: Play) -> None:
    results = play(
        attacks=[A1, A2],
        defenses=[D1, D2],
        answers={
            ("a1", "d1"): "xx",
            ("a1", "d2"): "==",
            ("a2", "d1"): "!x",
            ("a2", "d2"): "!.",
        },
        clean={"d1": "==", "d2": ".."},
    )
    scores = score(results, Absence.PAPER)
    assert scores.expelled == ("a2", "d2")
    assert scored(scores) == {"a1": 1, "a2": Fraction(1, 2), "d1": 0, "d2": 1}


def test_clean_labels_decide_no_completeness(play: Play) -> None:
    results = play(attacks=[A1], defenses=[D1], answers={("a1", "d1"): "x="}, clean={"d1": ".."})
    a1, d1 = score(results, Absence.PAPER).entries
    assert d1.complete
    assert a1.score == Fraction(1, 2)
    assert a1.gain_over_clean is None
    assert d1.clean_accuracy == 0
    (a1,) = score(results, Absence.DEV_TOOLKIT).attacks
    assert a1.gain_over_clean == Fraction(1, 2) - 1


def test_pairs_of_one_team_are_left_out_of_both_scores(play: Play) -> None:
    red, blue = "red", "blue"
    answers = {
        ("a1", "d1"): "==",
        ("a1", "d2"): "xx",
        ("a2", "d1"): "x=",
        ("a2", "d2"): "==",
    }
    results = play(
        attacks=[replace(A1, team=red), replace(A2, team=blue)],
        defenses=[replace(D1, team=red), D2],
        answers=answers,
        clean={"d1": "==", "d2": "=="},
    )
    scores = score(results, Absence.PAPER, Opponents.ENTRIES)
    assert scored(scores) == {
        "a1": 1,
        "a2": Fraction(1, 4),
        "d1": Fraction(1, 2),
        "d2": Fraction(1, 2),
    }
    a1, a2, d1, _ = scores.entries
    assert (a1.worst_case, a1.gain_over_clean) == (Fraction(1), Fraction(1))
    assert (a2.worst_case, d1.worst_case) == (Fraction(0), Fraction(1, 2))


def test_without_opponents_the_cells_are_empty(play: Play) -> None:
    results = play(
        attacks=[replace(A1, team="red")],
        defenses=[replace(D1, team="red")],
        answers={("a1", "d1"): "=x"},
        clean={"d1": "=="},
    )
    for absence in Absence:
        for entry in score(results, absence).entries:
            assert (entry.score, entry.worst_case, entry.gain_over_clean) == (None, None, None)
            assert entry.rank is None
            assert entry.coverage == 1


def test_a_rejected_entry_has_no_score_and_meets_nobody(play: Play) -> None:
    results = play(
        attacks=[A1, replace(A2, verdict=Verdict.REJECTED)],
        defenses=[D1, replace(D2, verdict=Verdict.REJECTED)],
        answers={
            ("a1", "d1"): "x=",
            ("a1", "d2"): "..",
            ("a2", "d1"): "!!",
            ("a2", "d2"): "!!",
        },
        clean={"d1": "==", "d2": ".."},
    )
    for absence in Absence:
        scores = score(results, absence)
        a1, a2, d1, d2 = scores.entries
        one = 1 if absence.counts else Fraction(1, 2)
        assert [a1.score, a2.score, d1.score, d2.score] == [one, None, one, None]
        assert [d2.clean_accuracy, a2.gain_over_clean, a2.worst_case] == [None] * 3
        assert [s.rank for s in scores.entries] == [1, None, 1, None]
        assert [s.coverage for s in scores.entries] == [1, 0, 1, 0]
        assert scores.expelled == ()


def test_a_rejected_defense_covers_nothing_even_where_there_was_nothing_to_do(play: Play) -> None:
    results = play(
        attacks=[replace(A1, verdict=Verdict.REJECTED)],
        defenses=[D1, replace(D2, verdict=Verdict.REJECTED)],
        answers={("a1", "d1"): "!!", ("a1", "d2"): "!!"},
        clean={"d1": "==", "d2": ".."},
    )
    _, d1, d2 = score(results, Absence.PAPER).entries
    assert (d1.images, d2.images) == (0, 0)
    assert [d1.coverage, d2.coverage] == [1, 0]


def test_nobody_has_a_rank_under_dev_toolkit_without_full_coverage(play: Play) -> None:
    """A missing image wins there; one image of four would be rank 1."""
    results = play(
        attacks=[A1, A2],
        defenses=[D1],
        answers={("a1", "d1"): "xx==", ("a2", "d1"): "x!!!"},
        clean={"d1": "===="},
    )
    a1, a2, _ = score(results, Absence.DEV_TOOLKIT).entries
    assert [a1.score, a2.score] == [2, 4]
    assert (a1.rank, a2.rank) == (1, None)


def test_pairs_that_we_failed_on_are_scored_for_nobody(play: Play) -> None:
    results = play(
        attacks=[replace(A1, verdict=Verdict.INFRA), A2],
        defenses=[D1],
        max_epsilons=(8, 16),
        answers={("a1", "d1"): "!x=" + "x==", ("a2", "d1"): "xx=" + "==="},
        clean={"d1": "x=."},
        infra_pairs=[0, 4],
        infra_images=[2],
    )
    scores = score(results, Absence.PAPER)
    assert scored(scores) == {
        "a1": Fraction(2, 4),
        "a2": Fraction(1, 4),
        "d1": Fraction(5, 8),
    }
    a1, a2, d1 = scores.entries
    assert scores.expelled == ()
    assert [a1.rank, a2.rank, d1.rank] == [None, 1, 1]
    assert d1.clean_accuracy == Fraction(1, 2)
    assert a2.gain_over_clean == Fraction(1, 4) - Fraction(1, 2)
    assert [e.score for e in a2.epsilons] == [Fraction(1, 2), 0]
    labels = scores.tallies.all_labels
    assert labels.correct.sum(axis=0).tolist() == [[3, 4]]
    assert labels.error.sum(axis=0).tolist() == [[2, 2]]


def test_ties_share_a_rank_and_the_next_is_skipped(play: Play) -> None:
    names = ["a1", "a2", "a3", "a4", "a5"]
    answers = ["x===", "xx==", "=xx=", "!!!!", "===="]
    results = play(
        attacks=[Entry(name=name, type=SubmissionType.ATTACK) for name in names],
        defenses=[D1],
        answers={(n, "d1"): answer for n, answer in zip(names, answers, strict=True)},
        clean={"d1": "===="},
    )
    scores = score(results, Absence.PAPER)
    assert [s.rank for s in scores.attacks] == [3, 1, 1, None, 4]
    assert scores.attacks[3].score == 0


def test_rates_over_different_numbers_of_opponents_tie_exactly(play: Play) -> None:
    """`a1` meets three defenses, `a2` (of `d1`'s team) two: 3/9 and 2/6 are the same score."""
    d3 = Entry(name="d3", type=SubmissionType.DEFENSE)
    answers = {("a1", d): "x==" for d in ("d1", "d2", "d3")}
    answers |= {("a2", "d1"): "xxx", ("a2", "d2"): "=x=", ("a2", "d3"): "==x"}
    results = play(
        attacks=[A1, replace(A2, team="red")],
        defenses=[replace(D1, team="red"), D2, d3],
        answers=answers,
        clean={"d1": "===", "d2": "===", "d3": "==="},
    )
    scores = score(results, Absence.PAPER, Opponents.ENTRIES)
    assert [s.rank for s in scores.attacks] == [1, 1]


def test_the_published_normaliser_counts_complete_opponents_only() -> None:
    """2017's finals: 5,000 images and 145 complete of 156 attacks, 105 complete of 107 defenses.

    The published figures fit |A| N = 725,000 and |D| N = 525,000.
    """
    attacks, complete_attacks, defenses, complete_defenses, images = 156, 145, 107, 105, 5000
    exists = np.ones((attacks, images), bool)
    exists[complete_attacks:, -1] = False
    predictions = np.zeros((defenses, attacks, images), np.int16)
    predictions[:, :, 0] = 1
    predictions[complete_defenses:, 0, 1] = -1
    predictions[:, ~exists] = -1
    results = Results(
        image_ids=tuple(map(str, range(images))),
        labels=np.ones(images, np.int16),
        target_classes=None,
        pair_image=np.arange(images),
        pair_max_epsilon=np.repeat([4, 8, 12, 16], images // 4),
        attacks=tuple(Entry(name=f"a{i:03d}", type=SubmissionType.ATTACK) for i in range(attacks)),
        defenses=tuple(
            Entry(name=f"d{i:03d}", type=SubmissionType.DEFENSE) for i in range(defenses)
        ),
        exists=exists,
        predictions=predictions,
        clean_predictions=np.ones((defenses, images), np.int16),
        infra_pairs=np.zeros(images, bool),
        infra_images=np.zeros(images, bool),
    )
    scores = score(results, Absence.PAPER)
    assert scores.defenses[0].score == Fraction(complete_attacks, 725_000)
    assert scores.attacks[0].score == Fraction(complete_defenses * (images - 1), 525_000)
