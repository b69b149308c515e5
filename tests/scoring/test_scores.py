"""Golden tournaments, worked out by hand."""

from collections.abc import Callable
from fractions import Fraction

from advcomp.rules.submission_type import SubmissionType
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
