"""What is said of how far a run is, by a clock that the test turns."""

import io
import time
from pathlib import Path

import pytest
from conftest import Require
from rich.console import Console
from support.contest import CONSTANT, COPY, Contest, write_greys

from advcomp.notebook.progress_bar import NotebookBar
from advcomp.rules.verdict import Verdict
from advcomp.terminal.run_progress import Pace, ProgressBar
from advcomp.terminal.text import whole
from advcomp.tournament.entry import intake
from advcomp.tournament.entry.known import SETTLED_S
from advcomp.tournament.store.job_results import JobResult


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def result(job: str, verdict: Verdict = Verdict.OK) -> JobResult:
    return JobResult(
        job=job,
        submission="x",
        stage="attack",
        max_epsilon=8,
        shard=0,
        images=6,
        valid=6,
        verdict=verdict,
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0 s"), (0.6, "1 s"), (12.34, "12 s"), (59.6, "1 min 00 s"), (3700, "1 h 01 min")],
)
def test_what_goes_on_has_no_fractions(seconds: float, shown: str) -> None:
    assert whole(seconds) == shown


def test_one_estimate_covers_both_stages_and_counts_down() -> None:
    clock = Clock()
    pace = Pace("attacks", 2, cost=20.0, later=60.0, clock=clock)
    assert pace.time_left == "time left: unknown yet"
    clock.now += 5
    pace.finished("one", 10.0)
    assert pace.time_left == "about 35 s left in all"  # half a second for each unit of 70
    clock.now += 4.2
    assert pace.time_left == "about 31 s left in all"
    clock.now += 100
    assert pace.time_left == "longer than it seemed"
    pace.finished("two", 10.0)
    assert pace.time_left == "took 1 min 49 s"
    last = Pace("defenses", 2, cost=20.0, clock=clock)
    clock.now += 3
    last.finished("three", 5.0)
    assert last.time_left == "about 9 s left"


def test_what_runs_is_named_with_how_long_the_longest_first() -> None:
    clock = Clock()
    pace = Pace("attacks", 9, cost=9.0, clock=clock)
    assert pace.running == ""
    for job in ("a", "b", "c", "d", "e", "f"):
        pace.started(job)
        clock.now += 30
    pace.finished("b", 1.0)
    assert (
        pace.running == "running: a 3 min 00 s, c 2 min 00 s, d 1 min 30 s, e 1 min 00 s, 1 more"
    )


def test_the_terminals_bar_shows_the_entries_and_what_runs() -> None:
    shown = io.StringIO()
    bar = ProgressBar(shown)
    bar.reading(2)
    bar.read("one")
    bar.read("two")
    bar.stage("attacks", 2, 0, 20.0, 60.0)
    bar.started("one-eps8-0")
    console = Console(file=shown, width=120)
    console.print(*bar._bars.get_renderables())
    text = shown.getvalue()
    assert "2/2 took 0 s" in text
    assert "running: one-eps8-0 0 s" in text
    bar.finished(result("one-eps8-0"), 10.0)
    shown.truncate(0)
    console.print(*bar._bars.get_renderables())
    assert "running" not in shown.getvalue()
    assert "1/2" in shown.getvalue()


class Cell:
    """The output of a cell, as `IPython.display.display` hands it out."""

    html = ""

    def update(self, shown: object) -> None:
        self.html = shown._repr_html_()  # type: ignore[attr-defined]


def test_a_notebooks_bar_shows_stages_and_what_failed_made_harmless() -> None:
    bar, cell = NotebookBar(), Cell()
    bar._handle = cell
    bar.reading(1)
    bar.read("one")
    bar.stage("attacks", 1, 0, 10.0, 0.0)
    bar.finished(result("<b>-eps8-0", Verdict.CRASHED), 10.0)
    bar.stage("defenses", 0, 3, 0.0, 0.0)
    assert "<progress max='10.0' value='10.0'>" in cell.html
    assert "1/1 took 0 s" in cell.html
    assert "&lt;b&gt;-eps8-0 CRASHED" in cell.html
    assert "defenses: nothing to run, 3 stored" in cell.html


def test_an_observer_is_told_of_entries_jobs_and_what_comes_later(
    tmp_path: Path, require: Require, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("bubblewrap")
    write_greys(tmp_path / "data", 6)
    contest = Contest(tmp_path)
    file = contest.file(
        [contest.entry("copy", COPY)], [contest.entry("three", CONSTANT, "defense")]
    )
    while time.time() - file.stat().st_ctime < SETTLED_S:
        time.sleep(0.01)
    contest.run(file)
    watcher = contest.watcher
    assert watcher.entries == ["copy", "three"]
    assert sorted(watcher.begun) == sorted(result.job for result in watcher.results)
    (_, later), (cost, nothing) = watcher.costs
    assert later == pytest.approx(cost)
    assert nothing == 0

    def read_again(*_: object) -> None:
        raise AssertionError("an entry that has not changed")

    monkeypatch.setattr(intake, "take_entry", read_again)
    contest.run(file)
    assert contest.watcher.entries == ["copy", "three"]
    assert contest.watcher.begun == []
