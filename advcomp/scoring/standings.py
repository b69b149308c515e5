"""A tournament judged: scores, intervals and all rankings of one set of results."""

from collections.abc import Mapping
from dataclasses import dataclass

from advcomp.rules.verdict import Verdict
from advcomp.scoring.game import rankings
from advcomp.scoring.intervals import Interval, bootstrap
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.ranking import Ranking
from advcomp.scoring.results import Results
from advcomp.scoring.scores import Absence, Scores, ranks_with, score


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """What a tournament file may choose about scores.

    Args:
        opponents: How opponents weigh, and what a team's own pairs are.
        bootstrap: Resamples that the intervals come from; 0 leaves the intervals empty.
        seed: Seed of those resamples.
    """

    absence: Absence = Absence.PAPER
    opponents: Opponents = Opponents.TEAMS
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An entry that scores nobody since it is incomplete, and what that changed.

    Args:
        entry: Its place among the entries, attacks first.
        changed: Place of an entry whose rank would be another if this one scored the others ->
            its rank, and that other rank.
    """

    entry: int
    changed: Mapping[int, tuple[int | None, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standings:
    """Everything that is known about who is better than whom.

    Args:
        intervals: One per entry, attacks first.
        rankings: pagerank-2017, pagerank, nash; their values in the same order of entries.
        left_out: The entries that were expelled as incomplete.
    """

    results: Results
    options: ScoringOptions
    scores: Scores
    intervals: tuple[Interval, ...]
    rankings: tuple[Ranking, Ranking, Ranking]
    left_out: tuple[LeftOut, ...]

    @property
    def provisional(self) -> bool:
        """Whether a failure of ours left something out, so that these are not the last word."""
        ours = any(score.entry.verdict is Verdict.INFRA for score in self.scores.entries)
        results = self.results
        return bool(ours or results.infra_pairs.any() or results.infra_images.any())


def judge(results: Results, options: ScoringOptions) -> Standings:
    """Score and rank a tournament; the same results and options give the same standings."""
    scores = score(results, options.absence, options.opponents)
    return Standings(
        results=results,
        options=options,
        scores=scores,
        intervals=bootstrap(results, scores, rounds=options.bootstrap, seed=options.seed),
        rankings=rankings(results, scores),
        left_out=tuple(
            _left_out(results, scores, place)
            for place, entry in enumerate(scores.entries)
            if entry.entry.name in scores.expelled
        ),
    )


def _left_out(results: Results, scores: Scores, place: int) -> LeftOut:
    ranks = [entry.rank for entry in scores.entries]
    others = ranks_with(results, scores, scores.entries[place].entry.name)
    changed = {
        i: (rank, other)
        for i, (rank, other) in enumerate(zip(ranks, others, strict=True))
        if rank != other
    }
    return LeftOut(entry=place, changed=changed)
