"""What is said where boxes got less of a processor than they may use."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import read_leaderboard
from advcomp.scoring.processors import processor_share, scarcity
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.page import organiser_report
from advcomp.scoring.results import JobRecord


def run(wall_s: float, cpu_s: float | None) -> JobRecord:
    return JobRecord(
        job="a-0",
        submission="a",
        stage="attack",
        shard=0,
        images=10,
        valid=10,
        verdict=Verdict.OK,
        wall_seconds=wall_s,
        cpu_seconds=cpu_s,
    )


@pytest.mark.parametrize(
    ("runs", "cpus", "share"),
    [
        ([(10, 9), (10, 3), (10, 8)], 1, 0.8),
        # An entry that sleeps is one of several.
        ([(10, 9), (100, 0.1), (20, 18)], 2, 0.9),
        # Half a processor is all that such a box may have.
        ([(10, 4), (10, 5), (10, 5)], 0.5, 1),
        # Short ones and those that nobody measured say nothing.
        ([(0.9, 0.1), (10, None), (10, 7)], 1, 0.7),
        ([(0.9, 0.1), (10, None)], 1, None),
        ([], 1, None),
    ],
)
def test_the_share_is_that_of_most_runs(
    runs: list[tuple[float, float | None]], cpus: float, share: float | None
) -> None:
    assert processor_share([run(*times) for times in runs], cpus) == share


def test_scarce_processors_are_told_in_the_terminal_and_in_the_report(
    material: Material, tmp_path: Path
) -> None:
    plenty, few = [run(10, 5.1)], [run(10, 2.5)]
    assert scarcity(plenty, 1) is None
    said = scarcity(few, 1)
    assert said is not None
    assert "at most 25% of the processor time" in said
    for jobs, told in ((plenty, False), (few, True)):
        assert ("processors: scarce" in organiser_report(replace(material, jobs=jobs))) == told
        times = [{"wall_seconds": j.wall_seconds, "cpu_seconds": j.cpu_seconds} for j in jobs]
        content = {"leaderboard": [], "jobs": times, "manifest": {"limits": {"cpus": 1.0}}}
        (tmp_path / "results.json").write_text(json.dumps(content))
        assert read_leaderboard(tmp_path)[1] == ([f"processors: scarce ({said})"] if told else [])
