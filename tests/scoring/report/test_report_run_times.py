"""Start-up and time for an image, told apart by runs of different sizes."""

from dataclasses import replace
from pathlib import Path

import pytest

from advcomp.scoring.leaderboard import COLUMNS
from advcomp.scoring.publish import write_results
from advcomp.scoring.report.boards import boards
from advcomp.scoring.run_times import RunTimes, run_times
from advcomp.scoring.standings import ScoringOptions, Standings, judge


@pytest.mark.parametrize(
    ("runs", "start", "per_image"),
    [
        ([(10, 4.0), (100, 13.0)], 3.0, 0.1),
        ([(10, 4.0), (100, 13.5), (100, 12.5)], 3.0, 0.1),
        # Noise cannot make a start of less than nothing, nor images that give time back.
        ([(10, 1.0), (20, 3.0)], 0.0, 2 / 15),
        ([(10, 3.0), (20, 1.0)], 2.0, 0.0),
    ],
)
def test_two_sizes_tell_start_and_image_apart(
    runs: list[tuple[int, float]], start: float, per_image: float
) -> None:
    found = run_times(runs)
    assert found is not None
    assert (found.start, found.per_image) == pytest.approx((start, per_image))


@pytest.mark.parametrize("runs", [[], [(10, 4.0)], [(10, 4.0), (10, 5.0)], [(10, 4.0), (19, 5.0)]])
def test_runs_of_like_sizes_tell_nothing(runs: list[tuple[int, float]]) -> None:
    assert run_times(runs) is None


def test_both_stand_in_the_results_and_in_the_report_where_they_are_known(
    standings: Standings, tmp_path: Path
) -> None:
    results = standings.results
    headings = [column.heading for column in boards(judge(results, ScoringOptions()))[0].columns]
    assert "Start-up" not in headings
    first, *others = results.attacks
    known = replace(first, run_times=RunTimes(start=2.5, per_image=0.125))
    changed = replace(results, attacks=(known, *others))
    write_results(tmp_path, changed, [], ScoringOptions(), {})
    said = (tmp_path / "results.json").read_text()
    assert '"start_seconds": 2.5,' in said
    assert '"seconds_per_image": 0.125' in said
    board = boards(judge(changed, ScoringOptions()))[0]
    headings = [column.heading for column in board.columns]
    assert headings[headings.index("s / 100") + 1 :][:2] == ["Start-up", "s / image"]
    (row,) = (row for row in board.rows if row.row.submission == first.name)
    at = headings.index("Start-up")
    assert [shown for _, shown in row.cells[at : at + 2]] == ["2.5", "0.125"]
    assert not {"start_seconds", "seconds_per_image"} & set(COLUMNS)
