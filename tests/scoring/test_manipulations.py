"""What a team gains by entries that only change the opponents of others: simulated, not proved."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.scores import Absence, score

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "manipulations.py"
SIMULATION: dict[str, Any] = runpy.run_path(str(BENCHMARK))
ROUNDS = 4000
TRACKS = (SubmissionType.ATTACK, SubmissionType.DEFENSE)
by_manipulation = pytest.mark.parametrize("name", SIMULATION["MANIPULATIONS"])
by_absence = pytest.mark.parametrize("absence", Absence)


@by_manipulation
@by_absence
@pytest.mark.parametrize("track", TRACKS)
@pytest.mark.parametrize("rule", Opponents)
def test_the_simulation_ranks_as_scores_do(
    name: str, absence: Absence, track: SubmissionType, rule: Opponents
) -> None:
    generator = np.random.default_rng(1)
    incomplete = name == SIMULATION["OMITTED"]
    for _ in range(3):
        rates = SIMULATION["MANIPULATIONS"][name](SIMULATION["drawn"](generator), generator)[1]
        results = SIMULATION["tournament"](rates, track, incomplete=incomplete)
        own = next(
            entry.rank
            for entry in score(results, absence, rule).entries
            if entry.entry.team == SIMULATION["OWN"] and entry.entry.type is track
        )
        found = SIMULATION["ranks"](rates[None], track, absence, rule, incomplete=incomplete)
        assert found.tolist() == [own]


@by_manipulation
@by_absence
def test_no_manipulation_moves_its_team_where_teams_weigh_one(name: str, absence: Absence) -> None:
    """Not up by more than 0.02 ranks, nor down; the rule of 2017 moves it by tenths.

    Where scores are counts, it moves a team down that adds opponents: it has fewer to win from.
    """

    def gained(rule: Opponents) -> Any:
        draw = SIMULATION["drawn"]
        return SIMULATION["gains"](draw, name, TRACKS[0], absence, rule, ROUNDS)

    by_team, by_entry = gained(Opponents.TEAMS), gained(Opponents.ENTRIES)
    assert SIMULATION["upper"](by_team) <= 0.02
    assert abs(by_team.mean()) <= 0.02
    if absence is Absence.DEV_TOOLKIT and name == SIMULATION["OMITTED"]:
        return  # nobody is expelled there, under no rule
    assert abs(by_entry.mean()) > 0.3
    if absence is Absence.PAPER:
        assert by_entry.mean() > 0.3
