"""The scores of 2017 under three rules for what absence means.

Every score is an exact fraction, so that ties are ties and files do not depend on rounding.

What the rules leave open is decided so:

* A pair that lacks a result because of us leaves every score, of everybody, and a clean image the
  same way; labels that exist on it still count in the matrices, and `images` and `coverage` still
  include it.
* An entry with verdict INFRA has no rank, but remains an opponent on the pairs that are left.
* A REJECTED entry never ran: it scores 0 under every rule (also under `dev-toolkit`, where a
  missing image of a running attack wins) and is nobody's opponent.
* A rate under `paper` and `dev-toolkit` is over all scored pairs; under `eval-infra` over the
  labels that exist, and an opponent with none is left out.
* The clean rate that a gain is measured from is over the clean images that the defense labelled,
  and a defense without any is left out of the mean; under `dev-toolkit` it is over all clean
  images, an unlabelled one being wrong and no hit.
* A defense that had no adversarial image to classify has covered them all, unless REJECTED.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.tallies import Tallies, rejected, tally


class Absence(StrEnum):
    """What a missing image or label means for the scores."""

    PAPER = "paper"
    EVAL_INFRA = "eval-infra"
    DEV_TOOLKIT = "dev-toolkit"

    @property
    def counts(self) -> bool:
        """Whether scores are counts, not rates."""
        return self is not Absence.PAPER

    def plain(self, score: Fraction | None) -> int | float | None:
        """A score as a number that is a count or a rate by its type."""
        if score is None:
            return None
        return int(score) if self.counts else float(score)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonScore:
    """An entry's score on the pairs of one budget, against the same opponents as in all."""

    max_epsilon: int
    score: Fraction | None
    worst_case: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryScore:
    """What one entry achieved; None where a figure does not apply.

    Args:
        rank: Within the track, 1 is best; None for REJECTED, INFRA, nothing valid, no opponents.
        score: A rate under `paper`, a count (an integer) under the other rules.
        worst_case: The lowest rate against one opponent.
        gain_over_clean: Mean over the opponents of what an attack adds to their errors (hits).
        clean_accuracy: Share of clean images that a defense answers rightly.
        images: Pairs that an attack, adversarial images that a defense had to do.
        valid: How many of them have a valid result.
        complete: Whether it scores opponents under `paper` and `eval-infra`, and is in the
            rankings.
    """

    entry: Entry
    rank: int | None
    score: Fraction | None
    worst_case: Fraction | None
    gain_over_clean: Fraction | None
    clean_accuracy: Fraction | None
    images: int
    valid: int
    complete: bool
    epsilons: tuple[EpsilonScore, ...]

    @property
    def coverage(self) -> Fraction:
        """Share of the images with a valid result."""
        if self.images:
            return Fraction(self.valid, self.images)
        return Fraction(self.entry.verdict is not Verdict.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """The scores of a tournament with A attacks and D defenses, and what they were made from.

    Args:
        attacks, defenses: In the order of the results.
        attack_opponents: bool (A, D), the defenses that each attack is scored on.
        defense_opponents: bool (D, A), the attacks that each defense is scored on.
        expelled: Names of entries that ran, but score nobody because they are not complete.
    """

    absence: Absence
    tallies: Tallies
    attacks: tuple[EntryScore, ...]
    defenses: tuple[EntryScore, ...]
    attack_opponents: NDArray[np.bool_]
    defense_opponents: NDArray[np.bool_]
    expelled: tuple[str, ...]

    @property
    def entries(self) -> tuple[EntryScore, ...]:
        """Attacks, then defenses."""
        return self.attacks + self.defenses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Side:
    """One side's n entries against the other's m, over E budgets.

    Args:
        points: int64 (n, E, m), pairs won by the entry.
        chances: int64 (n, E, m), pairs that a rate is over.
        opponents: bool (n, m).
        pairs: int64 (E,), all scored pairs.
    """

    absence: Absence
    points: NDArray[np.int64]
    chances: NDArray[np.int64]
    opponents: NDArray[np.bool_]
    pairs: NDArray[np.int64]

    def score(self, entry: int, budgets: slice = slice(None)) -> Fraction | None:
        opponents = self.opponents[entry]
        chances = int(opponents.sum() * self.pairs[budgets].sum())
        if not chances:
            return None
        points = int(self.points[entry, budgets][:, opponents].sum())
        return Fraction(points) if self.absence.counts else Fraction(points, chances)

    def rates(self, entry: int, budgets: slice = slice(None)) -> dict[int, Fraction]:
        """The entry's rate against each opponent with which it has one."""
        points = self.points[entry, budgets].sum(axis=0)
        chances = self.chances[entry, budgets].sum(axis=0)
        return _fractions(points, chances * self.opponents[entry])

    def worst_case(self, entry: int, budgets: slice = slice(None)) -> Fraction | None:
        return min(self.rates(entry, budgets).values(), default=None)

    def epsilons(self, entry: int, max_epsilons: NDArray[np.int64]) -> tuple[EpsilonScore, ...]:
        return tuple(
            EpsilonScore(
                max_epsilon=int(max_epsilon),
                score=self.score(entry, slice(i, i + 1)),
                worst_case=self.worst_case(entry, slice(i, i + 1)),
            )
            for i, max_epsilon in enumerate(max_epsilons)
        )


def score(results: Results, absence: Absence) -> Scores:
    """Score every entry of a tournament, and rank it within its track."""
    tallies = tally(results)
    attacks, defenses = _sides(results, tallies, absence)
    attack_scores = _score_attacks(results, tallies, attacks)
    defense_scores = _score_defenses(results, tallies, defenses)
    return Scores(
        absence=absence,
        tallies=tallies,
        attacks=attack_scores,
        defenses=defense_scores,
        attack_opponents=attacks.opponents,
        defense_opponents=defenses.opponents,
        expelled=_expelled(absence, attack_scores + defense_scores),
    )


def wins_by_absence(results: Results, absence: Absence) -> NDArray[np.bool_]:
    """Which attacks win every pair that is not answered rightly, bool (A,).

    Under `dev-toolkit` the non-targeted ones: what is missing, image or label, is not right.
    """
    untargeted = np.array([a.type is SubmissionType.ATTACK for a in results.attacks], dtype=bool)
    return untargeted & ~rejected(results.attacks) & (absence is Absence.DEV_TOOLKIT)


def targeted(results: Results) -> NDArray[np.bool_]:
    """Which attacks are scored by hits, bool (A,)."""
    return np.array(
        [a.type is SubmissionType.TARGETED_ATTACK for a in results.attacks], dtype=bool
    )


def _sides(results: Results, tallies: Tallies, absence: Absence) -> tuple[_Side, _Side]:
    """The attacks' and the defenses' view of the counts."""
    counts = tallies.scored_labels
    pairs = np.broadcast_to(tallies.pairs[:, None, None], counts.correct.shape)
    chances = counts.correct + counts.error if absence is Absence.EVAL_INFRA else pairs
    points = np.where(targeted(results), counts.hit, counts.error)
    points = np.where(wins_by_absence(results, absence), pairs - counts.correct, points)
    scoring_attacks, scoring_defenses = tallies.complete_attacks, tallies.complete_defenses
    if absence is Absence.DEV_TOOLKIT:
        scoring_attacks = ~rejected(results.attacks)
        scoring_defenses = ~rejected(results.defenses)
    attacks = _Side(
        absence=absence,
        points=points.transpose(2, 0, 1),
        chances=chances.transpose(2, 0, 1),
        opponents=tallies.strangers.T & scoring_defenses,
        pairs=tallies.pairs,
    )
    defenses = _Side(
        absence=absence,
        points=counts.correct.transpose(1, 0, 2),
        chances=chances.transpose(1, 0, 2),
        opponents=tallies.strangers & scoring_attacks,
        pairs=tallies.pairs,
    )
    return attacks, defenses


def _score_attacks(results: Results, tallies: Tallies, side: _Side) -> tuple[EntryScore, ...]:
    wrong, hit = _clean_rates(results, side.absence)
    images = len(results.pair_image)
    is_targeted = targeted(results)
    scores = [
        EntryScore(
            entry=entry,
            rank=None,
            score=side.score(a),
            worst_case=side.worst_case(a),
            gain_over_clean=_gain(side.rates(a), hit if is_targeted[a] else wrong),
            clean_accuracy=None,
            images=images,
            valid=int(results.exists[a].sum()),
            complete=bool(tallies.complete_attacks[a]),
            epsilons=side.epsilons(a, tallies.max_epsilons),
        )
        for a, entry in enumerate(results.attacks)
    ]
    return _ranked(scores)


def _score_defenses(results: Results, tallies: Tallies, side: _Side) -> tuple[EntryScore, ...]:
    valid = (tallies.all_labels.correct + tallies.all_labels.error).sum(axis=(0, 2))
    images = int(results.exists.sum())
    scores = [
        EntryScore(
            entry=entry,
            rank=None,
            score=side.score(d),
            worst_case=side.worst_case(d),
            gain_over_clean=None,
            clean_accuracy=_clean_accuracy(results, d),
            images=images,
            valid=int(valid[d]),
            complete=bool(tallies.complete_defenses[d]),
            epsilons=side.epsilons(d, tallies.max_epsilons),
        )
        for d, entry in enumerate(results.defenses)
    ]
    return _ranked(scores)


def _clean_rates(
    results: Results, absence: Absence
) -> tuple[dict[int, Fraction], dict[int, Fraction]]:
    """Each defense's rates of wrong and of target-class answers on clean images."""
    answers = results.clean_predictions[:, ~results.infra_images]
    labels = results.labels[~results.infra_images]
    asked = (answers != MISSING) | (absence is Absence.DEV_TOOLKIT)
    wrong = asked & (answers != labels)
    hit = np.zeros_like(wrong)
    if results.target_classes is not None:
        hit = answers == results.target_classes[~results.infra_images]
    chances = asked.sum(axis=1)
    return _fractions(wrong.sum(axis=1), chances), _fractions(hit.sum(axis=1), chances)


def _fractions(points: NDArray[np.int64], chances: NDArray[np.int64]) -> dict[int, Fraction]:
    """points / chances by index, where there are chances."""
    return {int(i): Fraction(int(points[i]), int(chances[i])) for i in np.flatnonzero(chances > 0)}


def _gain(rates: dict[int, Fraction], clean: dict[int, Fraction]) -> Fraction | None:
    gains = [rates[d] - clean[d] for d in rates.keys() & clean.keys()]
    return sum(gains, Fraction(0)) / len(gains) if gains else None


def _clean_accuracy(results: Results, defense: int) -> Fraction | None:
    scored = ~results.infra_images
    right = results.clean_predictions[defense, scored] == results.labels[scored]
    return Fraction(int(right.sum()), right.size) if right.size else None


def _ranked(scores: Sequence[EntryScore]) -> tuple[EntryScore, ...]:
    """Give every entry that has a place its rank among those of its track; ties share one."""
    placed = [(s.entry.type, s.score) for s in scores if _has_rank(s) and s.score is not None]
    return tuple(
        replace(s, rank=1 + sum(t is s.entry.type and other > s.score for t, other in placed))
        if _has_rank(s) and s.score is not None
        else s
        for s in scores
    )


def _has_rank(score: EntryScore) -> bool:
    return score.entry.verdict not in (Verdict.REJECTED, Verdict.INFRA) and score.coverage > 0


def _expelled(absence: Absence, scores: Sequence[EntryScore]) -> tuple[str, ...]:
    if absence is Absence.DEV_TOOLKIT:
        return ()
    return tuple(
        s.entry.name for s in scores if not s.complete and s.entry.verdict is not Verdict.REJECTED
    )
