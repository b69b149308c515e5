"""The scores of 2017 under three rules for what absence means.

Every score is an exact fraction, so that ties are ties and files do not depend on rounding.

What the rules leave open is decided so:

* A pair that lacks a result because of us leaves every score, of everybody, and a clean image the
  same way; labels that exist on it still count in the matrices, and `images` and `coverage` still
  include it.
* An entry with verdict INFRA has no rank, but remains an opponent on the pairs that are left.
* A REJECTED entry never ran: it has no score under any rule, and is nobody's opponent.
* Under `dev-toolkit`, where what is missing wins, nobody has a rank without full coverage.
* What own pairs are taken to be, where opponents weigh by team, is told in `opponents.py`. A worst
  case is over pairs that were played; so is a gain, in which opponents weigh as in a score.
* A count in which estimates have a part is rounded where it is shown; ranks go by what it is.
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
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.opponents import DECIMALS, Fit, Opponents, own_pairs, team_weights
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
        return int(score + Fraction(1, 2)) if self.counts else float(score)


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
        rank: Within the track, 1 is best; None for REJECTED, INFRA, nothing valid, no opponents,
            and under `dev-toolkit` for less than full coverage.
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
        attack_opponents: bool (A, D), the defenses that each attack is scored on by pairs that
            were played.
        defense_opponents: bool (D, A), the attacks that each defense is scored on, likewise.
        attack_side, defense_side: The weights of opponents, and what own pairs are taken to be.
        expelled: Names of entries that ran, but score nobody because they are not complete.
    """

    absence: Absence
    opponents: Opponents
    tallies: Tallies
    attacks: tuple[EntryScore, ...]
    defenses: tuple[EntryScore, ...]
    attack_opponents: NDArray[np.bool_]
    defense_opponents: NDArray[np.bool_]
    attack_side: "Side"
    defense_side: "Side"
    expelled: tuple[str, ...]

    @property
    def entries(self) -> tuple[EntryScore, ...]:
        """Attacks, then defenses."""
        return self.attacks + self.defenses


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side's n entries against the other's m, over E budgets.

    Args:
        points: int64 (n, E, m), pairs won by the entry.
        chances: int64 (n, E, m), pairs that a rate is over.
        opponents: bool (n, m), pairs that were played and count.
        estimated: bool (n, m), own pairs that are estimated.
        weights: int64 (m,), of the opponents.
        scale: The weight of an opponent that has a team of its own.
        fits: Rows -> the model of their quantity; none where nothing is estimated.
        pairs: int64 (E,), all scored pairs.
    """

    absence: Absence
    points: NDArray[np.int64]
    chances: NDArray[np.int64]
    opponents: NDArray[np.bool_]
    estimated: NDArray[np.bool_]
    weights: NDArray[np.int64]
    scale: int
    fits: tuple[tuple[NDArray[np.intp], Fit], ...]
    pairs: NDArray[np.int64]

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """Own pairs (n, m) with opponents that score others, which are not estimated."""
        found: NDArray[np.bool_] = (self.weights > 0) & ~self.opponents & ~self.estimated
        return found

    @cached_property
    def _estimates(self) -> NDArray[np.float64]:
        """Rates (n, E, m) of own pairs under the models."""
        found = np.zeros(self.points.shape)
        pairs = np.maximum(self.pairs, 1)[:, None, None]
        for rows, fit in self.fits:
            rates = self.points[rows].transpose(1, 0, 2) / pairs
            made = fit.estimates(fit.row_sums(rates), fit.column_sums(rates))
            found[rows] = np.round(made, DECIMALS).transpose(1, 0, 2)
        return found

    def score(self, entry: int, budgets: slice = slice(None)) -> Fraction | None:
        """The entry's score at some budgets; None where it has no opponent."""
        played, own = self.opponents[entry], self.estimated[entry]
        weight = int(self.weights[played | own].sum())
        chances = weight * int(self.pairs[budgets].sum())
        if not chances:
            return None
        won = self.points[entry, budgets][:, played] @ self.weights[played]
        points = Fraction(int(won.sum()))
        for opponent in np.flatnonzero(own):
            for budget in np.arange(len(self.pairs))[budgets]:
                nano = round(float(self._estimates[entry, budget, opponent]) * 10**DECIMALS)
                share = Fraction(nano, 10**DECIMALS) * int(self.pairs[budget])
                points += share * int(self.weights[opponent])
        return points / self.scale if self.absence.counts else points / chances

    def rates(self, entry: int, budgets: slice = slice(None)) -> dict[int, Fraction]:
        """The entry's rate against each opponent that it met and with which it has one."""
        points = self.points[entry, budgets].sum(axis=0)
        chances = self.chances[entry, budgets].sum(axis=0)
        return _fractions(points, chances * self.opponents[entry])

    def worst_case(self, entry: int, budgets: slice = slice(None)) -> Fraction | None:
        """The lowest of these rates."""
        return min(self.rates(entry, budgets).values(), default=None)

    def epsilons(self, entry: int, max_epsilons: NDArray[np.int64]) -> tuple[EpsilonScore, ...]:
        """Both at every budget."""
        return tuple(
            EpsilonScore(
                max_epsilon=int(max_epsilon),
                score=self.score(entry, slice(i, i + 1)),
                worst_case=self.worst_case(entry, slice(i, i + 1)),
            )
            for i, max_epsilon in enumerate(max_epsilons)
        )


def score(results: Results, absence: Absence, opponents: Opponents = Opponents.TEAMS) -> Scores:
    """Score every entry of a tournament, and rank it within its track."""
    return _scored(results, tally(results), absence, opponents)


def ranks_with(results: Results, scores: Scores, name: str) -> tuple[int | None, ...]:
    """What the ranks of all entries would be if one that is not complete scored the others.

    Args:
        results: What `scores` was made from.
        scores: The scores of a tournament.
        name: Of the entry.
    """
    also = [
        np.array([entry.name == name for entry in entries], dtype=bool)
        for entries in (results.attacks, results.defenses)
    ]
    tallies = replace(
        scores.tallies,
        complete_attacks=scores.tallies.complete_attacks | also[0],
        complete_defenses=scores.tallies.complete_defenses | also[1],
    )
    scored = _scored(results, tallies, scores.absence, scores.opponents)
    return tuple(entry.rank for entry in scored.entries)


def _scored(results: Results, tallies: Tallies, absence: Absence, opponents: Opponents) -> Scores:
    attacks, defenses = _sides(results, tallies, absence, opponents)
    attack_scores = _score_attacks(results, tallies, attacks)
    defense_scores = _score_defenses(results, tallies, defenses)
    return Scores(
        absence=absence,
        opponents=opponents,
        tallies=tallies,
        attacks=attack_scores,
        defenses=defense_scores,
        attack_opponents=attacks.opponents,
        defense_opponents=defenses.opponents,
        attack_side=attacks,
        defense_side=defenses,
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


def _sides(
    results: Results, tallies: Tallies, absence: Absence, opponents: Opponents
) -> tuple[Side, Side]:
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
    quantities = targeted(results)
    attacks = _side(
        _Entries(results.attacks, scoring_attacks, [quantities, ~quantities]),
        _Entries(results.defenses, scoring_defenses, []),
        strangers=tallies.strangers.T,
        opponents=opponents,
        absence=absence,
        points=points.transpose(2, 0, 1),
        chances=chances.transpose(2, 0, 1),
        pairs=tallies.pairs,
    )
    defenses = _side(
        _Entries(results.defenses, scoring_defenses, [np.ones(len(results.defenses), np.bool_)]),
        _Entries(results.attacks, scoring_attacks, []),
        strangers=tallies.strangers,
        opponents=opponents,
        absence=absence,
        points=counts.correct.transpose(1, 0, 2),
        chances=chances.transpose(1, 0, 2),
        pairs=tallies.pairs,
    )
    return attacks, defenses


@dataclass(frozen=True, slots=True)
class _Entries:
    """Entries of one side, which of them score others, and groups that one quantity judges."""

    entries: Sequence[Entry]
    scoring: NDArray[np.bool_]
    quantities: Sequence[NDArray[np.bool_]]


def _side(
    rows: _Entries,
    columns: _Entries,
    *,
    strangers: NDArray[np.bool_],
    opponents: Opponents,
    absence: Absence,
    points: NDArray[np.int64],
    chances: NDArray[np.int64],
    pairs: NDArray[np.int64],
) -> Side:
    """One side under a rule for opponents."""
    played = strangers & columns.scoring
    estimated = np.zeros_like(played)
    weights, scale = columns.scoring.astype(np.int64), 1
    fits: list[tuple[NDArray[np.intp], Fit]] = []
    if opponents is Opponents.TEAMS:
        weights, scale = team_weights(columns.entries, columns.scoring)
        row_weights, _ = team_weights(rows.entries, rows.scoring)
        for group in rows.quantities:
            chosen = np.flatnonzero(group)
            if (strangers | ~columns.scoring)[chosen].all():
                continue  # nobody has an own pair
            fit = Fit.of(played[chosen], row_weights[chosen], weights)
            estimated[chosen] = own_pairs(strangers[chosen], columns.scoring, fit)
            fits.append((chosen, fit))
    return Side(
        absence=absence,
        points=points,
        chances=chances,
        opponents=played,
        estimated=estimated & ~rejected(tuple(rows.entries))[:, None],
        weights=weights,
        scale=scale,
        fits=tuple(fits),
        pairs=pairs,
    )


def _score_attacks(results: Results, tallies: Tallies, side: Side) -> tuple[EntryScore, ...]:
    wrong, hit = _clean_rates(results, side.absence)
    images = len(results.pair_image)
    is_targeted = targeted(results)
    scores = [
        EntryScore(
            entry=entry,
            rank=None,
            score=side.score(a),
            worst_case=side.worst_case(a),
            gain_over_clean=_gain(side, a, hit if is_targeted[a] else wrong),
            clean_accuracy=None,
            images=images,
            valid=int(results.exists[a].sum()),
            complete=bool(tallies.complete_attacks[a]),
            epsilons=side.epsilons(a, tallies.max_epsilons),
        )
        for a, entry in enumerate(results.attacks)
    ]
    return _ranked(scores, side.absence)


def _score_defenses(results: Results, tallies: Tallies, side: Side) -> tuple[EntryScore, ...]:
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
    return _ranked(scores, side.absence)


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


def _gain(side: Side, entry: int, clean: dict[int, Fraction]) -> Fraction | None:
    rates = side.rates(entry)
    met = rates.keys() & clean.keys()
    weight = sum(int(side.weights[d]) for d in met)
    gains = (int(side.weights[d]) * (rates[d] - clean[d]) for d in met)
    return sum(gains, Fraction(0)) / weight if weight else None


def _clean_accuracy(results: Results, defense: int) -> Fraction | None:
    scored = ~results.infra_images
    right = results.clean_predictions[defense, scored] == results.labels[scored]
    return Fraction(int(right.sum()), right.size) if right.size else None


def _ranked(scores: Sequence[EntryScore], absence: Absence) -> tuple[EntryScore, ...]:
    """Give every entry that has a place its rank among those of its track; ties share one."""
    scores = [_emptied(s) if s.entry.verdict is Verdict.REJECTED else s for s in scores]
    places = [_has_rank(s, absence) for s in scores]
    placed = [
        (s.entry.type, s.score)
        for s, has_rank in zip(scores, places, strict=True)
        if has_rank and s.score is not None
    ]
    return tuple(
        replace(s, rank=1 + sum(t is s.entry.type and other > s.score for t, other in placed))
        if has_rank and s.score is not None
        else s
        for s, has_rank in zip(scores, places, strict=True)
    )


def _emptied(score: EntryScore) -> EntryScore:
    """A REJECTED entry's: it never ran, so nothing is known of it."""
    return replace(
        score,
        score=None,
        worst_case=None,
        gain_over_clean=None,
        clean_accuracy=None,
        epsilons=tuple(replace(e, score=None, worst_case=None) for e in score.epsilons),
    )


def _has_rank(score: EntryScore, absence: Absence) -> bool:
    if score.entry.verdict in (Verdict.REJECTED, Verdict.INFRA):
        return False
    return score.coverage == 1 if absence is Absence.DEV_TOOLKIT else score.coverage > 0


def _expelled(absence: Absence, scores: Sequence[EntryScore]) -> tuple[str, ...]:
    if absence is Absence.DEV_TOOLKIT:
        return ()
    return tuple(
        s.entry.name for s in scores if not s.complete and s.entry.verdict is not Verdict.REJECTED
    )
