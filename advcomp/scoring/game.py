"""The matrices that rankings are computed from, taken from a tournament's results."""

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.ranking import Matrix, Ranking, nash, pagerank, pagerank_2017
from advcomp.scoring.results import Results
from advcomp.scoring.scores import Scores, targeted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Game:
    """The complete entries that meet a complete entry of another team, D' by A'.

    Args:
        attacks, defenses: intp (A',) and (D',), their indices in the results.
        attack_rates: (D', A'), misclassification (hit) rates over the scored pairs.
        defense_rates: (D', A'), rates of right answers.
        played: bool (D', A'), False where both are of one team.
    """

    attacks: NDArray[np.intp]
    defenses: NDArray[np.intp]
    attack_rates: Matrix
    defense_rates: Matrix
    played: NDArray[np.bool_]


def rankings(results: Results, scores: Scores) -> tuple[Ranking, Ranking, Ranking]:
    """pagerank-2017 over all entries as they stand, pagerank and nash over the complete ones."""
    labels = scores.tallies.all_labels
    as_they_stand = pagerank_2017(
        labels.correct.sum(axis=0),
        labels.error.sum(axis=0),
        labels.hit.sum(axis=0),
        targeted=targeted(results),
    )
    game = _game(results, scores)
    ranked = pagerank(game.attack_rates * game.played, game.defense_rates * game.played)
    return as_they_stand, _widened(ranked, game, results), _nash(results, scores, game)


def _game(results: Results, scores: Scores) -> Game:
    tallies = scores.tallies
    played = tallies.strangers & np.outer(tallies.complete_defenses, tallies.complete_attacks)
    played &= tallies.pairs.sum() > 0
    meet = np.ix_(played.any(axis=1), played.any(axis=0))
    labels = tallies.scored_labels
    wins = np.where(targeted(results), labels.hit.sum(axis=0), labels.error.sum(axis=0))
    pairs = max(1, int(tallies.pairs.sum()))
    return Game(
        attacks=np.flatnonzero(played.any(axis=0)),
        defenses=np.flatnonzero(played.any(axis=1)),
        attack_rates=wins[meet] / pairs,
        defense_rates=labels.correct.sum(axis=0)[meet] / pairs,
        played=played[meet],
    )


def _nash(results: Results, scores: Scores, game: Game) -> Ranking:
    """Nash averaging with entries of identical labels merged, which then share a value.

    Labels are compared where the game sees them: on scored pairs with complete entries.
    """
    scored = scores.tallies.scored
    columns = [
        _key(results.predictions[game.defenses, a][:, scored], game.played[:, j], is_targeted)
        for j, (a, is_targeted) in enumerate(
            zip(game.attacks, targeted(results)[game.attacks], strict=True)
        )
    ]
    rows = [
        _key(results.predictions[d, game.attacks][:, scored], game.played[i])
        for i, d in enumerate(game.defenses)
    ]
    _, first_columns, which_column = np.unique(columns, return_index=True, return_inverse=True)
    _, first_rows, which_row = np.unique(rows, return_index=True, return_inverse=True)
    merged = np.ix_(first_rows, first_columns)
    ranking = nash(game.attack_rates[merged], played=game.played[merged])
    shared = replace(
        ranking, attacks=ranking.attacks[which_column], defenses=ranking.defenses[which_row]
    )
    return _widened(shared, game, results)


def _key(*parts: NDArray[np.generic]) -> str:
    """A text that is the same for the same arrays, and for them only."""
    return sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def _widened(ranking: Ranking, game: Game, results: Results) -> Ranking:
    """The ranking of all entries, from that of the game's."""
    attacks = np.full(len(results.attacks), np.nan)
    defenses = np.full(len(results.defenses), np.nan)
    attacks[game.attacks], defenses[game.defenses] = ranking.attacks, ranking.defenses
    return replace(ranking, attacks=attacks, defenses=defenses)
