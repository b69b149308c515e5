"""Rankings of whole tournaments: who takes part, who is merged, who is left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.game import rankings
from advcomp.scoring.results import Entry, Results
from advcomp.scoring.scores import Absence, score

Play = Callable[..., Results]

ATTACKS = [
    Entry(name="a1", type=SubmissionType.ATTACK),
    Entry(name="a2", type=SubmissionType.ATTACK),
    Entry(name="t1", type=SubmissionType.TARGETED_ATTACK),
]
DEFENSES = [Entry(name=f"d{i}", type=SubmissionType.DEFENSE) for i in (1, 2, 3)]
CORRECT = {"d1": (90, 40, 95), "d2": (60, 50, 80), "d3": (20, 10, 70)}
HITS = {"d1": 1, "d2": 5, "d3": 20}


def golden_answers() -> dict[tuple[str, str], str]:
    """100 images with the counts of the rulebook's example."""
    answers = {}
    for d, counts in CORRECT.items():
        for a, correct in zip(("a1", "a2"), counts, strict=False):
            answers[a, d] = "=" * correct + "x" * (100 - correct)
        answers["t1", d] = "=" * counts[2] + "t" * HITS[d] + "x" * (100 - counts[2] - HITS[d])
    return answers


def mixed_answers() -> dict[tuple[str, str], str]:
    """The same but for one pair, so that two attacks and two defenses are in the mixes."""
    return golden_answers() | {("a1", "d2"): "x" * 90 + "=" * 10}


def values(results: Results) -> dict[str, dict[str, float | None]]:
    """Value of every entry by ranking and name."""
    names = [entry.name for entry in (*results.attacks, *results.defenses)]
    found = rankings(results, score(results, Absence.PAPER))
    return {r.name: dict(zip(names, r.values, strict=True)) for r in found}


def tournament(
    play: Play,
    attacks: Sequence[Entry] = ATTACKS,
    defenses: Sequence[Entry] = DEFENSES,
    answers: Mapping[tuple[str, str], str] | None = None,
) -> Results:
    answers = golden_answers() if answers is None else answers
    clean = {defense.name: "=" * 100 for defense in defenses}
    return play(attacks=attacks, defenses=defenses, answers=answers, clean=clean)


def test_the_rulebooks_example_gives_its_golden_values(play: Play) -> None:
    found = values(tournament(play))
    expected = {
        "pagerank_2017": [0.327055, 0.620137, 0.052808, 0.453901, 0.420179, 0.125921],
        "pagerank": [0.153588, 0.302539, 0.043873, 0.211438, 0.211832, 0.076730],
        "nash": [0.4, 0.5, 0.05, 0.4, 0.5, 0.1],
    }
    for name, golden in expected.items():
        assert list(found[name].values()) == pytest.approx(golden, abs=6e-7)


@pytest.mark.parametrize("copied", ["a1", "a2", "t1", "d1", "d2", "d3"])
def test_ten_copies_of_an_entry_move_nobody_in_nash(play: Play, copied: str) -> None:
    answers = mixed_answers()
    before = values(tournament(play, answers=answers))
    attacks, defenses = list(ATTACKS), list(DEFENSES)
    original = next(e for e in ATTACKS + DEFENSES if e.name == copied)
    side = defenses if original.type is SubmissionType.DEFENSE else attacks
    names = [f"{copied}-{i}" for i in range(10)]
    side += [replace(original, name=name) for name in names]
    for (a, d), labels in list(answers.items()):
        for name in names:
            if copied in (a, d):
                answers[name if a == copied else a, name if d == copied else d] = labels
    after = values(tournament(play, attacks, defenses, answers))
    for name, value in before["nash"].items():
        assert after["nash"][name] == pytest.approx(value, abs=1e-9)
    for name in names:
        assert after["nash"][name] == after["nash"][copied]


@pytest.mark.parametrize(
    ("labels", "against_d2"),
    [("x=", 1 - (1 / 2 * 1 + 1 / 2 * 1 / 2)), ("=x", 1 - (2 / 3 * 1 + 1 / 3 * 1 / 2))],
)
def test_entries_are_merged_by_labels_not_by_rates(
    play: Play, labels: str, against_d2: float
) -> None:
    """All attacks have rate 1/2 against d1, which alone is played; so all of them share the mix.

    Where a2 has the labels of a1 they are one entry, and a third attack plays as much as both.
    """
    attacks = [Entry(name=f"a{i}", type=SubmissionType.ATTACK) for i in (1, 2, 3)]
    results = play(
        attacks=attacks,
        defenses=DEFENSES[:2],
        answers={
            ("a1", "d1"): "x=",
            ("a2", "d1"): labels,
            ("a3", "d1"): "x=",
            ("a1", "d2"): "xx",
            ("a2", "d2"): "xx",
            ("a3", "d2"): "x=",
        },
        clean={"d1": "==", "d2": "=="},
    )
    assert values(results)["nash"]["d2"] == pytest.approx(against_d2, abs=1e-9)


def test_incomplete_entries_are_in_pagerank_2017_only(play: Play) -> None:
    answers = golden_answers()
    late = Entry(name="a3", type=SubmissionType.ATTACK)
    lazy = Entry(name="d4", type=SubmissionType.DEFENSE)
    answers |= {("a3", d): "!" + "x" * 99 for d in ("d1", "d2", "d3", "d4")}
    answers |= {(a, "d4"): "." + "=" * 99 for a in ("a1", "a2", "t1")}
    results = tournament(play, [*ATTACKS[:2], late, ATTACKS[2]], [*DEFENSES, lazy], answers)
    found = values(results)
    complete = values(tournament(play))
    for name in ("pagerank", "nash"):
        assert (found[name].pop("a3"), found[name].pop("d4")) == (None, None)
        assert found[name] == pytest.approx(complete[name])
    assert all(value is not None and value > 0 for value in found["pagerank_2017"].values())


def test_a_rejected_entry_is_ranked_by_neither(play: Play) -> None:
    answers = golden_answers() | {("a3", d): "!" * 100 for d in CORRECT}
    rejected = Entry(name="a3", type=SubmissionType.ATTACK, verdict=Verdict.REJECTED)
    found = values(tournament(play, [*ATTACKS[:2], rejected, ATTACKS[2]], DEFENSES, answers))
    assert (found["pagerank"]["a3"], found["nash"]["a3"]) == (None, None)
    assert found["pagerank_2017"]["a3"] == 0


def test_only_pagerank_2017_counts_labels_of_pairs_that_we_failed_on(play: Play) -> None:
    """Pair 0 is ours; on the other 99 nothing differs from a tournament without it."""
    everything = tournament(play)
    ours = np.arange(100) == 0
    failed = values(replace(everything, infra_pairs=ours))
    assert failed["pagerank_2017"] == values(everything)["pagerank_2017"]
    without = {pair: labels[1:] for pair, labels in golden_answers().items()}
    clean = dict.fromkeys(CORRECT, "=" * 99)
    smaller = values(play(attacks=ATTACKS, defenses=DEFENSES, answers=without, clean=clean))
    for name in ("pagerank", "nash"):
        assert failed[name] == pytest.approx(smaller[name], abs=1e-12)
    assert failed["nash"]["a2"] == pytest.approx(50 / 99)


def test_labels_within_a_team_change_neither_pagerank_nor_nash(play: Play) -> None:
    attacks = [replace(ATTACKS[0], team="red"), *ATTACKS[1:]]
    defenses = [replace(DEFENSES[0], team="red"), *DEFENSES[1:]]
    found = values(tournament(play, attacks, defenses, mixed_answers()))
    answers = mixed_answers() | {("a1", "d1"): "x" * 100}
    colluding = values(tournament(play, attacks, defenses, answers))
    apart = values(tournament(play, answers=mixed_answers()))
    for name in ("pagerank", "nash"):
        assert colluding[name] == found[name]
        assert found[name] != pytest.approx(apart[name], abs=1e-3)
    assert colluding["pagerank_2017"] != found["pagerank_2017"]


def test_without_opponents_of_another_team_nobody_is_ranked(play: Play) -> None:
    attack, defense = replace(ATTACKS[0], team="red"), replace(DEFENSES[0], team="red")
    found = values(tournament(play, [attack], [defense]))
    assert found["pagerank"] == found["nash"] == {"a1": None, "d1": None}
