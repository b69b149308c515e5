"""Scores against a second implementation: the rulebook read aloud, pair by pair."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import Schedule, schedule_pairs
from advcomp.rules.verdict import Verdict
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import Absence, EntryScore, score


class Rulebook:
    """Section 3 of the rules with Python's integers and fractions; slow and plain."""

    def __init__(self, results: Results, absence: Absence) -> None:
        self.results = results
        self.absence = absence
        self.pairs = [p for p, ours in enumerate(results.infra_pairs) if not ours]
        self.clean = [i for i, ours in enumerate(results.infra_images) if not ours]

    def label(self, d: int, a: int, p: int) -> int:
        return int(self.results.predictions[d, a, p])

    def true_label(self, p: int) -> int:
        return int(self.results.labels[self.results.pair_image[p]])

    def target(self, image: int) -> int | None:
        targets = self.results.target_classes
        return None if targets is None else int(targets[image])

    def is_targeted(self, a: int) -> bool:
        return self.results.attacks[a].type is SubmissionType.TARGETED_ATTACK

    def attack_is_complete(self, a: int) -> bool:
        if self.results.attacks[a].verdict is Verdict.REJECTED:
            return False
        return all(self.results.exists[a, p] for p in self.pairs)

    def defense_is_complete(self, d: int) -> bool:
        if self.results.defenses[d].verdict is Verdict.REJECTED:
            return False
        for a in range(len(self.results.attacks)):
            for p in self.pairs:
                if self.results.exists[a, p] and self.label(d, a, p) == MISSING:
                    return False
        return True

    def one_team(self, d: int, a: int) -> bool:
        team = self.results.defenses[d].team
        return team is not None and team == self.results.attacks[a].team

    def defenses_against(self, a: int) -> list[int]:
        entries = self.results.defenses
        scoring = (
            (lambda d: entries[d].verdict is not Verdict.REJECTED)
            if self.absence is Absence.DEV_TOOLKIT
            else self.defense_is_complete
        )
        return [d for d in range(len(entries)) if scoring(d) and not self.one_team(d, a)]

    def attacks_against(self, d: int) -> list[int]:
        entries = self.results.attacks
        scoring = (
            (lambda a: entries[a].verdict is not Verdict.REJECTED)
            if self.absence is Absence.DEV_TOOLKIT
            else self.attack_is_complete
        )
        return [a for a in range(len(entries)) if scoring(a) and not self.one_team(d, a)]

    def attack_wins(self, d: int, a: int, p: int) -> bool:
        label = self.label(d, a, p)
        if self.is_targeted(a):
            return label == self.target(int(self.results.pair_image[p]))
        if label == MISSING:
            rejected = self.results.attacks[a].verdict is Verdict.REJECTED
            return self.absence is Absence.DEV_TOOLKIT and not rejected
        return label != self.true_label(p)

    def defense_wins(self, d: int, a: int, p: int) -> bool:
        return self.label(d, a, p) == self.true_label(p)

    def rate(self, wins: Callable[..., bool], d: int, a: int, pairs: list[int]) -> Fraction | None:
        if self.absence is Absence.EVAL_INFRA:
            pairs = [p for p in pairs if self.label(d, a, p) != MISSING]
        return Fraction(sum(wins(d, a, p) for p in pairs), len(pairs)) if pairs else None

    def figures(
        self, wins: Callable[..., bool], meetings: list[tuple[int, int]], pairs: list[int]
    ) -> tuple[Fraction | None, Fraction | None]:
        """Score and worst case over meetings (d, a)."""
        if not meetings or not pairs:
            return None, None
        total = sum(wins(d, a, p) for d, a in meetings for p in pairs)
        rates = [self.rate(wins, d, a, pairs) for d, a in meetings]
        worst = min((rate for rate in rates if rate is not None), default=None)
        if self.absence is Absence.PAPER:
            return Fraction(total, len(meetings) * len(pairs)), worst
        return Fraction(total), worst

    def clean_rate(self, d: int, targeted: bool) -> Fraction | None:
        answers = [(i, int(self.results.clean_predictions[d, i])) for i in self.clean]
        if self.absence is not Absence.DEV_TOOLKIT:
            answers = [(i, label) for i, label in answers if label != MISSING]
        if not answers:
            return None
        if targeted:
            return Fraction(sum(label == self.target(i) for i, label in answers), len(answers))
        wrong = sum(label != int(self.results.labels[i]) for i, label in answers)
        return Fraction(wrong, len(answers))

    def gain(self, a: int) -> Fraction | None:
        gains = []
        for d in self.defenses_against(a):
            attacked = self.rate(self.attack_wins, d, a, self.pairs)
            clean = self.clean_rate(d, self.is_targeted(a))
            if attacked is not None and clean is not None:
                gains.append(attacked - clean)
        return Fraction(sum(gains), len(gains)) if gains else None

    def pairs_of(self, max_epsilon: int) -> list[int]:
        return [p for p in self.pairs if self.results.pair_max_epsilon[p] == max_epsilon]


def ranks(entries: Iterable[tuple[Entry, Fraction | None, bool]]) -> list[int | None]:
    """Ranks from (entry, score, whether anything is valid): sort, count who came before."""
    listed = list(entries)
    ranked: list[int | None] = []
    for entry, value, any_valid in listed:
        out = entry.verdict in (Verdict.REJECTED, Verdict.INFRA) or value is None or not any_valid
        better = [
            other
            for rival, other, rival_valid in listed
            if rival.type is entry.type
            and rival.verdict not in (Verdict.REJECTED, Verdict.INFRA)
            and rival_valid
            and other is not None
            and value is not None
            and other > value
        ]
        ranked.append(None if out else len(better) + 1)
    return ranked


@st.composite
def tournaments(draw: st.DrawFn) -> Results:
    images = draw(st.integers(1, 4))
    max_epsilons = draw(st.sampled_from([(16,), (8, 16)]))
    with_targets = draw(st.booleans())
    kinds = [SubmissionType.ATTACK] * draw(st.integers(0, 3))
    kinds += [SubmissionType.TARGETED_ATTACK] * (draw(st.integers(0, 2)) if with_targets else 0)
    attacks = [_entry(draw, f"a{i}", kind) for i, kind in enumerate(kinds)]
    kinds = [SubmissionType.DEFENSE] * draw(st.integers(0, 3))
    defenses = [_entry(draw, f"d{i}", kind) for i, kind in enumerate(kinds)]
    pairs = schedule_pairs(images, max_epsilons, Schedule.GRID)
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=images, max_size=images)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    holes = draw(st.sampled_from([0.0, 0.1, 0.5]))
    exists = generator.random((len(attacks), len(pairs))) >= holes * generator.integers(2)
    if draw(st.booleans()):
        exists[[a.verdict is Verdict.REJECTED for a in attacks]] = False
    shape = (len(defenses), len(attacks), len(pairs))
    predictions = generator.integers(0, 4, shape)
    unanswered = generator.random((len(defenses), 1, 1)) < draw(st.sampled_from([0.0, 0.5]))
    predictions[unanswered & (generator.random(shape) < holes)] = MISSING
    predictions[:, ~exists] = MISSING
    predictions[[d.verdict is Verdict.REJECTED for d in defenses]] = MISSING
    clean_predictions = generator.integers(-1, 3, (len(defenses), images))
    ours = draw(st.sampled_from([0.0, 0.0, 0.3]))
    return Results(
        image_ids=tuple(map(str, range(images))),
        labels=labels.astype(np.int16),
        target_classes=((labels + 1) % 3).astype(np.int16) if with_targets else None,
        pair_image=np.array([pair.image for pair in pairs]),
        pair_max_epsilon=np.array([pair.max_epsilon for pair in pairs]),
        attacks=tuple(attacks),
        defenses=tuple(defenses),
        exists=exists,
        predictions=predictions.astype(np.int16),
        clean_predictions=clean_predictions.astype(np.int16),
        infra_pairs=generator.random(len(pairs)) < ours,
        infra_images=generator.random(images) < ours,
    )


def _entry(draw: st.DrawFn, name: str, kind: SubmissionType) -> Entry:
    verdicts = [Verdict.OK] * 6 + [Verdict.CRASHED, Verdict.REJECTED, Verdict.INFRA]
    return Entry(
        name=name,
        type=kind,
        team=draw(st.sampled_from([None, None, "red", "blue"])),
        verdict=draw(st.sampled_from(verdicts)),
    )


def is_empty(score: EntryScore) -> bool:
    """Whether nothing is said of an entry but that it is there."""
    figures = [score.score, score.worst_case, score.gain_over_clean, score.clean_accuracy]
    figures += [figure for e in score.epsilons for figure in (e.score, e.worst_case)]
    return figures == [None] * len(figures) and score.rank is None


@pytest.mark.parametrize("absence", Absence)
@given(results=tournaments())
@settings(max_examples=150, derandomize=True, deadline=None)
def test_scores_equal_the_rulebook_read_aloud(absence: Absence, results: Results) -> None:
    book = Rulebook(results, absence)
    scores = score(results, absence, Opponents.ENTRIES)
    for a, attack in enumerate(scores.attacks):
        meetings = [(d, a) for d in book.defenses_against(a)]
        if attack.entry.verdict is Verdict.REJECTED:
            assert is_empty(attack)
            continue
        figures = book.figures(book.attack_wins, meetings, book.pairs)
        assert (attack.score, attack.worst_case) == figures
        assert attack.gain_over_clean == book.gain(a)
        assert attack.complete == book.attack_is_complete(a)
        assert attack.clean_accuracy is None
        assert attack.coverage == Fraction(int(results.exists[a].sum()), len(results.pair_image))
        for epsilon in attack.epsilons:
            figures = book.figures(book.attack_wins, meetings, book.pairs_of(epsilon.max_epsilon))
            assert (epsilon.score, epsilon.worst_case) == figures
    for d, defense in enumerate(scores.defenses):
        meetings = [(d, a) for a in book.attacks_against(d)]
        if defense.entry.verdict is Verdict.REJECTED:
            assert is_empty(defense)
            continue
        figures = book.figures(book.defense_wins, meetings, book.pairs)
        assert (defense.score, defense.worst_case) == figures
        assert defense.gain_over_clean is None
        assert defense.complete == book.defense_is_complete(d)
        assert defense.images == results.exists.sum()
        assert defense.valid == (results.predictions[d] != MISSING).sum()
        right = sum(results.clean_predictions[d, i] == results.labels[i] for i in book.clean)
        expected = Fraction(int(right), len(book.clean)) if book.clean else None
        assert defense.clean_accuracy == expected
        for epsilon in defense.epsilons:
            figures = book.figures(book.defense_wins, meetings, book.pairs_of(epsilon.max_epsilon))
            assert (epsilon.score, epsilon.worst_case) == figures
    least = 1 if absence is Absence.DEV_TOOLKIT else Fraction(1, 10**9)
    found = [(s.entry, s.score, s.coverage >= least) for s in scores.entries]
    assert [s.rank for s in scores.entries] == ranks(found)


@given(results=tournaments())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_matrices_count_the_labels_that_exist(results: Results) -> None:
    tallies = score(results, Absence.PAPER).tallies
    for e, max_epsilon in enumerate(tallies.max_epsilons):
        for d, a in np.ndindex(len(results.defenses), len(results.attacks)):
            pairs = np.flatnonzero(results.pair_max_epsilon == max_epsilon)
            labels = [int(results.predictions[d, a, p]) for p in pairs]
            images = [int(results.pair_image[p]) for p in pairs]
            there = [(i, k) for i, k in zip(images, labels, strict=True) if k != MISSING]
            targets = results.target_classes
            counts = tallies.all_labels
            assert counts.correct[e, d, a] == sum(k == results.labels[i] for i, k in there)
            assert counts.error[e, d, a] == sum(k != results.labels[i] for i, k in there)
            if targets is not None:
                assert counts.hit[e, d, a] == sum(k == targets[i] for i, k in there)
