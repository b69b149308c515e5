"""What an audit makes of answers: sizes, error rates, and what is flagged."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import comb
from statistics import NormalDist, stdev

import numpy as np
import pytest
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.audit.change import Change, at_least, bounds, by_unit, holm, moved, share
from advcomp.scoring.audit.finding import LEVEL, TOLERANCE, AuditCheck, Finding, judged
from advcomp.scoring.audit.replayed import (
    Images,
    Labels,
    gain_of_defense,
    gains_of_attacks,
    of_attack,
    of_defense,
    together,
)
from advcomp.scoring.audit.screens import (
    FAR,
    Likeness,
    alike_attacks,
    alike_defenses,
    constant,
    own_pairs,
    won,
)
from advcomp.scoring.results import MISSING, Entry, Results

Play = Callable[..., Results]
TRUTH = np.arange(200, dtype=np.int16) % 10


def probability(count: int, units: int, chance: float) -> float:
    return comb(units, count) * chance**count * (1 - chance) ** (units - count)


@pytest.mark.parametrize("units", [1, 2, 7, 40])
@pytest.mark.parametrize("chance", [0.01, 0.05, 0.5])
def test_tails_and_bounds_are_those_of_the_sums(units: int, chance: float) -> None:
    for count in range(units + 1):
        tail = sum(probability(k, units, chance) for k in range(count, units + 1))
        assert at_least(count, units, chance) == pytest.approx(tail)
        low, high = bounds(count, units, 0.025)
        assert low <= count / units <= high
        if count:
            assert at_least(count, units, low) == pytest.approx(0.025)
        if count < units:
            assert 1 - at_least(count + 1, units, high) == pytest.approx(0.025)


def test_a_share_is_stated_with_its_interval_and_judged_by_its_tolerance() -> None:
    change = share(3, 40, tolerance=0.05)
    assert (change.units, change.size) == (40, 0.075)
    assert (change.low, change.high) == bounds(3, 40, 0.025)
    assert change.p == at_least(3, 40, 0.05)
    assert share(40, 40).p == 1.0
    assert share(0, 0) == Change(units=0, size=0.0, low=0.0, high=1.0)


@pytest.mark.parametrize("level", [LEVEL, LEVEL / 10, LEVEL / 100])
def test_no_test_alarms_more_often_than_it_says(level: float) -> None:
    """Enumerated: every count that an honest entry may come to, with its probability."""
    for units in (1, 2, 3, 5, 8, 13, 24, 60):
        alarms = sum(
            probability(count, units, TOLERANCE)
            for count in range(units + 1)
            if share(count, units, tolerance=TOLERANCE).p <= level
        )
        assert alarms <= level
        signs = np.array([[1.0] * up + [-1.0] * (units - up) for up in range(units + 1)])
        for falls in (False, True):
            alarms = sum(
                probability(up, units, 0.5)
                for up, sign in enumerate(signs)
                if moved(np.zeros(units), sign, seed=0, falls=falls, rounds=1).p <= level
            )
            assert alarms <= level


def test_several_tests_share_their_level() -> None:
    """By the definition: the k-th smallest of n passes where all up to it are small enough."""
    for chosen in product([0.0001, 0.002, 0.004, 0.009, 0.5], repeat=4):
        ordered = sorted(chosen)
        passed = 0
        while passed < 4 and ordered[passed] <= LEVEL / (4 - passed):
            passed += 1
        limit = ordered[passed - 1] if passed else -1.0
        assert holm(chosen, LEVEL) == [p <= limit for p in chosen]


def test_an_average_that_moves_is_stated_with_its_interval() -> None:
    before = np.zeros(50)
    after = np.array([1.0] * 20 + [0.0] * 30)
    change = moved(before, after, seed=0)
    assert (change.units, change.size) == (50, 0.4)
    assert 0.2 < change.low < 0.4 < change.high < 0.6
    assert change.p == pytest.approx(2 * 0.5**20)
    ramp = np.arange(50) / 7
    assert (
        moved(before, ramp, seed=0) == moved(before, ramp, seed=0) != moved(before, ramp, seed=1)
    )
    assert moved(before, after, seed=0, falls=True).p == 1.0
    still = moved(before, before, seed=0)
    unseen = 1 - 0.025 ** (1 / 50)
    assert (still.size, still.low, still.high, still.p) == (0.0, -unseen, unseen, 1.0)


def test_answers_of_several_defenses_to_one_image_are_one_unit() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    assert by_unit(values, np.array([7, 3, 7, 3])).tolist() == [0.5, 1.0]


def labels(before: NDArray[np.int16], after: NDArray[np.int16], attack: int = -1) -> Labels:
    images = np.arange(len(before))
    return Labels(image=images, attack=np.full(len(before), attack), before=before, after=after)


def noisy(draw: np.random.Generator, right: float) -> NDArray[np.int16]:
    """Labels of which a share is right, drawn anew."""
    wrong = (TRUTH + draw.integers(1, 10, len(TRUTH))) % 10
    return np.where(draw.random(len(TRUTH)) < right, TRUTH, wrong).astype(np.int16)


def defense(
    check: AuditCheck, before: NDArray[np.int16], after: NDArray[np.int16], *, randomised: bool
) -> Finding:
    return of_defense(check, "d", labels(before, after), TRUTH, randomised=randomised, seed=0)


def test_audits_of_honest_entries_flag_nothing() -> None:
    """200 audits of 6 tests each: 2 are expected to flag anything where all entries are at the
    tolerance; more than 9 come with a probability of 5e-5."""
    draw = np.random.default_rng(17)
    audits = []
    for _ in range(200):
        honest = []
        for check in (AuditCheck.RENAMED, AuditCheck.MIXED, AuditCheck.UNTOUCHED):
            rounded = np.where(draw.random(200) < TOLERANCE, TRUTH + 1, TRUTH).astype(np.int16)
            honest.append(defense(check, TRUTH, rounded, randomised=False))
        audits.append(honest)
    for audit in audits[:20]:  # intervals of rates take their time
        for check in (AuditCheck.RENAMED, AuditCheck.MIXED, AuditCheck.UNTOUCHED):
            audit.append(defense(check, noisy(draw, 0.6), noisy(draw, 0.6), randomised=True))
    assert sum(any(finding.flagged for finding in judged(audit)) for audit in audits) <= 9


def test_what_differs_is_flagged_by_labels_or_else_by_rates() -> None:
    draw = np.random.default_rng(0)
    before, after = noisy(draw, 0.8), noisy(draw, 0.8)
    by_labels = defense(AuditCheck.RENAMED, before, after, randomised=False)
    assert by_labels.change.size == (before != after).mean() > 0.3
    by_rates = defense(AuditCheck.RENAMED, before, after, randomised=True)
    falling = defense(AuditCheck.RENAMED, before, noisy(draw, 0.4), randomised=True)
    found = judged([by_labels, by_rates, falling])
    assert [finding.flagged for finding in found] == [True, False, True]
    assert falling.change.high < -0.2
    assert "declared randomised" in by_rates.note


def test_answers_to_one_image_are_one_unit_of_a_rate() -> None:
    several = replace(labels(TRUTH, TRUTH), image=np.arange(200) // 4)
    found = of_defense(AuditCheck.AGAIN, "d", several, TRUTH, randomised=True, seed=0)
    assert found.change.units == 50


def test_parts_of_several_replays_are_put_together_field_by_field() -> None:
    parts = [
        Labels(
            image=np.array([k]),
            attack=np.array([k + 1]),
            before=np.array([k + 2], np.int16),
            after=np.array([k + 3], np.int16),
        )
        for k in (10, 20)
    ]
    whole = together(parts)
    told = [each.tolist() for each in (whole.image, whole.attack, whole.before, whole.after)]
    assert told == [[10, 20], [11, 21], [12, 22], [13, 23]]
    assert not len(together([]).image)


def test_what_is_significant_alone_may_be_chance_among_others() -> None:
    found = defense(AuditCheck.AGAIN, TRUTH, TRUTH, randomised=False)
    one = replace(found, change=replace(found.change, p=0.8 * LEVEL))
    for others, flagged in (([], True), ([found], False)):
        assert [f.flagged for f in judged([one, *others])] == [flagged, *[False] * len(others)]


@pytest.mark.parametrize(
    ("check", "flagged"), [(AuditCheck.NUDGED, False), (AuditCheck.RENAMED, True)]
)
def test_pixels_that_moved_may_change_more_labels(check: AuditCheck, *, flagged: bool) -> None:
    after = np.where(np.arange(200) < 12, 10, TRUTH).astype(np.int16)
    found = defense(check, TRUTH, after, randomised=False)
    assert [each.flagged for each in judged([found])] == [flagged]


def test_three_labels_of_eight_are_enough_among_a_hundred_tests() -> None:
    eight = TRUTH[:8]
    cheat = defense(
        AuditCheck.UNTOUCHED, eight, np.where(np.arange(8) < 3, 9, eight).astype(np.int16),
        randomised=False,
    )  # fmt: skip
    same = defense(AuditCheck.AGAIN, TRUTH, TRUTH, randomised=False)
    found = judged([cheat, *[same] * 99])
    assert [finding.flagged for finding in found] == [True, *[False] * 99]


def images(differs: int, *, before: float = 4.0, after: float = 4.0) -> Images:
    return Images(
        differs=np.arange(30) < differs, before=np.full(30, before), after=np.full(30, after)
    )


def test_an_attack_is_told_for_names_and_flagged_for_what_is_left_when_nothing_changes() -> None:
    again, renamed, random, weaker = judged(
        [
            of_attack(AuditCheck.AGAIN, "a", images(9), randomised=False, seed=0),
            of_attack(AuditCheck.RENAMED, "a", images(30), randomised=False, seed=0),
            of_attack(AuditCheck.AGAIN, "r", images(30), randomised=True, seed=0),
            of_attack(AuditCheck.RENAMED, "r", images(30, after=1.0), randomised=True, seed=0),
        ]
    )
    assert (again.flagged, again.change.size) == (True, 0.3)
    assert (renamed.flagged, renamed.change.size, renamed.change.p) == (False, 1.0, 1.0)
    assert "seeded once a run" in renamed.note
    assert not random.flagged
    assert (weaker.flagged, weaker.change.size) == (True, -3.0)


def test_images_that_are_missing_before_or_after_are_no_part_of_a_rate() -> None:
    shown = images(30, after=5.0)
    shown.before[:3], shown.after[20:] = np.nan, np.nan
    found = of_attack(AuditCheck.RENAMED, "r", shown, randomised=True, seed=0)
    assert (found.change.units, found.change.size) == (17, 1.0)


def test_fewer_images_beside_are_told_of_a_randomised_attack_and_not_tested() -> None:
    for check, tested in ((AuditCheck.SUBSET, False), (AuditCheck.REORDERED, True)):
        found = of_attack(check, "r", images(30, after=1.0), randomised=True, seed=0)
        assert found.is_tested == tested


@pytest.mark.parametrize("randomised", [False, True])
@pytest.mark.parametrize(
    ("after", "size", "flagged"),
    [(0.0, -1.0, True), (1.9, -1.0, True), (2.1, 0.0, False), (9.0, 1.0, False)],
)
def test_an_attack_that_does_little_to_images_it_cannot_know_is_flagged(
    after: float, size: float, *, flagged: bool, randomised: bool
) -> None:
    shown = images(30, after=after)
    found = of_attack(AuditCheck.NUDGED, "a", shown, randomised=randomised, seed=0)
    assert [f.flagged for f in judged([found])] == [flagged]
    assert found.change.size == size


def test_an_image_that_an_attack_made_of_known_pixels_alone_counts_as_not_moved() -> None:
    gone = of_attack(AuditCheck.NUDGED, "a", images(30, after=np.nan), randomised=False, seed=0)
    still = of_attack(
        AuditCheck.NUDGED, "noop", images(30, before=0.0, after=0.0), randomised=False, seed=0
    )
    assert [f.flagged for f in judged([gone, still])] == [True, False]
    found = of_attack(AuditCheck.NUDGED, "a", images(30, before=np.nan), randomised=False, seed=0)
    assert found.change.size == 1.0


def entry(
    name: str, kind: SubmissionType = SubmissionType.DEFENSE, team: str | None = None
) -> Entry:
    return Entry(name=name, type=kind, team=team)


def test_gain_that_vanishes_under_other_names_is_flagged(play: Play) -> None:
    n = 24
    attacks = [entry("a", SubmissionType.ATTACK), entry("t", SubmissionType.TARGETED_ATTACK)]
    results = play(
        attacks=attacks,
        defenses=[entry("d")],
        answers={("a", "d"): "x" * n, ("t", "d"): "t" * n},
        clean={"d": "=" * n},
    )
    right, target, other = (np.full(n, label, np.int16) for label in (1, 2, 3))
    cheating = [labels(other, right, 0), labels(target, other, 1)]
    honest = [labels(other, other, 0), labels(target, target, 1)]
    for parts, flagged in ((cheating, True), (honest, False)):
        found = [f for part in parts for f in gains_of_attacks(results, part, 0, "so")]
        assert [finding.entry for finding in found] == ["a", "t"]
        assert [finding.flagged for finding in judged(found)] == [flagged] * 2
    lost = gain_of_defense("d", labels(right, other), results.labels, 0)
    won = gain_of_defense("d", labels(other, right), results.labels, 0)
    assert [finding.flagged for finding in judged([lost, won])] == [True, False]
    assert lost.change.size == -1.0


def test_answers_to_clean_images_are_no_attacks(play: Play) -> None:
    results = play(
        attacks=[entry(name, SubmissionType.ATTACK) for name in ("a", "b")],
        defenses=[entry("d")],
        answers={("a", "d"): "x" * 9, ("b", "d"): "x" * 9},
        clean={"d": "=" * 9},
    )
    wrong = np.full(9, 3, np.int16)
    both = together([labels(wrong, wrong, -1), labels(wrong, wrong, 0)])
    assert [f.entry for f in gains_of_attacks(results, both, 0, "so")] == ["a"]


def test_a_win_is_a_wrong_label_or_the_target_and_never_a_missing_one(play: Play) -> None:
    kinds = (SubmissionType.ATTACK, SubmissionType.TARGETED_ATTACK)
    results = play(
        attacks=[entry(kind.value, kind) for kind in kinds],
        defenses=[entry("d")],
        answers={(kind.value, "d"): "=xt." for kind in kinds},
        clean={"d": "===="},
    )
    assert won(results).tolist() == [[[0, 1, 1, 0], [0, 0, 1, 0]]]


def test_a_missing_image_is_no_win(play: Play) -> None:
    results = play(
        attacks=[entry("a", SubmissionType.ATTACK)],
        defenses=[entry("d")],
        answers={("a", "d"): "x" * 9},
        clean={"d": "=" * 9},
    )
    gone = labels(np.full(9, 3, np.int16), np.full(9, MISSING, np.int16), 0)
    (found,) = gains_of_attacks(results, gone, 0, "so")
    assert found.change.size == -1.0


def contest(play: Play, answers: dict[str, str], clean: dict[str, str] | None = None) -> Results:
    """One attack, and defenses whose answers these are."""
    return play(
        attacks=[entry("a", SubmissionType.ATTACK)],
        defenses=[entry(name) for name in answers],
        answers={("a", name): text for name, text in answers.items()},
        clean=clean or {name: "=" * len(text) for name, text in answers.items()},
    )


def test_the_same_answer_for_all_is_flagged_where_the_truth_varies(play: Play) -> None:
    results = contest(play, {"c": "x" * 6, "v": "xt=" * 2}, {"c": "x" * 6, "v": "xt=" * 2})
    varied = replace(results, labels=np.array([1, 2, 3, 1, 2, 3], np.int16))
    (found,) = constant(varied)
    assert (found.entry, found.flagged, found.change.size) == ("c", True, 1.0)
    (found,) = constant(results)
    assert not found.flagged  # there is one label, and it may be right to say so


def test_one_answer_is_no_news_where_few_were_given_or_none(play: Play) -> None:
    given = {"ten": "x" * 10, "nine": "x" * 9 + ".", "none": "." * 10}
    results = contest(play, given, dict.fromkeys(given, "." * 10))
    found = constant(replace(results, labels=np.arange(10, dtype=np.int16)))
    assert [(f.entry, f.flagged, f.change.units) for f in found] == [
        ("ten", True, 10),
        ("nine", False, 9),
    ]


def test_what_is_missing_on_both_sides_is_no_likeness(play: Play) -> None:
    """Two that timed out have nothing in common; nor have two without images."""
    names, n = ("a", "b"), 400
    results = play(
        attacks=[entry(name, SubmissionType.ATTACK) for name in names],
        defenses=[entry("one"), entry("other")],
        answers=dict.fromkeys(product(names, ("one", "other")), "." * n),
        clean={"one": "." * n, "other": "." * n},
    )
    assert not list(alike_defenses(results))
    none = dict.fromkeys(names, np.full(n, "", "U64"))
    clean = np.array([f"clean-{k}" for k in range(n)])
    assert not list(alike_attacks(results, none, clean, {}))


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("x" * 10, "x" * 10, [AuditCheck.IDENTICAL]),
        ("x" * 9 + "=", "x" * 9 + "=", []),  # nine telling answers
        ("x" * 100, "x" * 99 + "t", []),  # 99 %, and too few to be sure of 98
    ],
)
def test_few_telling_answers_are_no_likeness(
    play: Play, one: str, other: str, found: list[AuditCheck]
) -> None:
    results = contest(play, {"one": one, "other": other})
    assert [finding.check for finding in alike_defenses(results)] == found


def test_copies_are_flagged_and_agreement_where_both_are_right_is_not(play: Play) -> None:
    n = 400
    wrong = "x" * n
    answers = {"one": wrong, "copy": wrong, "nearly": "x" * (n - 1) + "t", "free": "t" * n}
    found = {(f.entry, f.other): f for f in alike_defenses(contest(play, answers))}
    assert found.pop(("one", "copy")).check is AuditCheck.IDENTICAL
    assert {key: f.check for key, f in found.items()} == {
        ("one", "nearly"): AuditCheck.NEAR_IDENTICAL,
        ("copy", "nearly"): AuditCheck.NEAR_IDENTICAL,
    }
    assert not list(alike_defenses(contest(play, {"one": "=" * n, "other": "=" * n})))
    results = contest(play, {"one": "=" * n, "other": "=" * n})
    same = tuple(replace(defense, digest="5e") for defense in results.defenses)
    (found_same,) = alike_defenses(replace(results, defenses=same))
    assert (found_same.check, found_same.flagged) == (AuditCheck.IDENTICAL, True)
    team = tuple(replace(defense, team="red") for defense in same)
    assert not list(alike_defenses(replace(results, defenses=team)))


def test_attacks_with_the_same_images_are_flagged_unless_they_change_none(play: Play) -> None:
    n = 20
    names = ("one", "copy", "noop", "still")
    results = play(
        attacks=[entry(name, SubmissionType.ATTACK) for name in names],
        defenses=[entry("d")],
        answers={(name, "d"): "=" * n for name in names},
        clean={"d": "=" * n},
    )
    clean = np.array([f"clean-{k}" for k in range(n)])
    made = np.array([f"made-{k}" for k in range(n)])
    digests = {"one": made, "copy": made, "noop": clean, "still": clean}
    found = [f for f in alike_attacks(results, digests, clean, {}) if f.flagged]
    assert [(f.check, f.entry, f.other) for f in found] == [(AuditCheck.IDENTICAL, "one", "copy")]


@pytest.mark.parametrize(
    ("likeness", "team", "flagged"),
    [
        (Likeness(values=9000, equal=8900, images=30), None, True),
        (Likeness(values=9000, equal=8750, images=30), None, False),
        (Likeness(values=9000, equal=8900, images=9), None, False),
        (Likeness(values=100, equal=99, images=30), None, False),  # too few to be sure
        (Likeness(values=9000, equal=8900, images=30), "red", False),
        (Likeness(), None, False),
    ],
)
def test_attacks_whose_images_differ_in_few_values_are_nearly_identical(
    play: Play, likeness: Likeness, team: str | None, *, flagged: bool
) -> None:
    n = 20
    results = play(
        attacks=[entry(name, SubmissionType.ATTACK, team) for name in ("b", "a")],
        defenses=[entry("d")],
        answers={(name, "d"): "=" * n for name in ("a", "b")},
        clean={"d": "=" * n},
    )
    made = {name: np.array([f"{name}-{k}" for k in range(n)]) for name in ("a", "b")}
    clean = np.array([f"clean-{k}" for k in range(n)])
    found = list(alike_attacks(results, made, clean, {("a", "b"): likeness}))
    assert [f.check for f in found] == [AuditCheck.NEAR_IDENTICAL] * flagged
    assert all(f.change.size == likeness.equal / likeness.values for f in found)


@pytest.mark.parametrize(
    ("own", "size", "flagged"),
    [
        ("=" * 40, -1.0, True),
        ("=" * 8 + "x" * 32, -0.2, False),  # surely so, and not far
        ("=" * 29, -1.0, False),  # too few for the test
        ("x" * 40, 0.0, False),
    ],
)
def test_own_pairs_far_from_what_others_let_expect_are_flagged(
    play: Play, own: str, size: float, *, flagged: bool
) -> None:
    """The attack wins against everybody, and not always against its own team's defense."""
    n = len(own)
    attacks = [
        entry("mine", SubmissionType.ATTACK, team="red"),
        entry("theirs", SubmissionType.ATTACK),
    ]
    results = play(
        attacks=attacks,
        defenses=[entry("friend", team="red"), entry("stranger")],
        answers={
            ("mine", "friend"): own,
            ("mine", "stranger"): "x" * n,
            ("theirs", "friend"): "x" * n,
            ("theirs", "stranger"): "x" * n,
        },
        clean={"friend": "=" * n, "stranger": "=" * n},
    )
    (found,) = judged(list(own_pairs(results)))
    assert (found.entry, found.other, found.flagged) == ("mine", "friend", flagged)
    assert found.change.size == pytest.approx(size)
    assert found.is_tested == (n >= 30)


def test_what_an_own_pair_is_expected_to_come_to_is_added_up_from_the_others(play: Play) -> None:
    """Expected 0.75 + 0.5 - 0.25, less a rate that is sure by the error of its mean alone."""
    n = 40
    results = play(
        attacks=[
            entry("mine", SubmissionType.ATTACK, team="red"),
            entry("theirs", SubmissionType.ATTACK),
        ],
        defenses=[entry("friend", team="red"), entry("stranger")],
        answers={
            ("mine", "friend"): "=" * 16 + "x" * 24,
            ("mine", "stranger"): "x" * 30 + "=" * 10,
            ("theirs", "friend"): "x" * 20 + "=" * 20,
            ("theirs", "stranger"): "x" * 10 + "=" * 30,
        },
        clean={"friend": "=" * n, "stranger": "=" * n},
    )
    (found,) = own_pairs(results)
    assert found.change.size == pytest.approx(0.6 - 1.0)
    own, alone, weak, others = (
        [float(k in range(*wins)) for k in range(n)]
        for wins in ((16, 40), (0, 30), (0, 20), (0, 10))
    )
    residual = [o - (a + w - r) for o, a, w, r in zip(own, alone, weak, others, strict=True)]
    error = stdev(residual) / n**0.5
    assert found.change.p == pytest.approx(2 * NormalDist().cdf((FAR - 0.4) / error))
