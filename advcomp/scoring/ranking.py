"""Rankings of attacks and defenses by whom they beat, not only by how often."""

from collections.abc import Mapping
from dataclasses import dataclass

from advcomp.scoring.results import Results
from advcomp.scoring.scores import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The values of one ranking.

    Args:
        parameters: What it was computed with.
        values: Of every entry, attacks first, then defenses; None for an entry left out.
    """

    name: str
    parameters: Mapping[str, int | float]
    values: tuple[float | None, ...]


def pagerank_2017(scores: Scores) -> Ranking:
    return Ranking(name="pagerank_2017", parameters={}, values=tuple(None for _ in scores.entries))


def pagerank(scores: Scores) -> Ranking:
    return Ranking(name="pagerank", parameters={}, values=tuple(None for _ in scores.entries))


def nash(results: Results, scores: Scores) -> Ranking:
    return Ranking(name="nash", parameters={}, values=tuple(None for _ in scores.entries))
