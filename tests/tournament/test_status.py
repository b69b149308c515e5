"""What a run folder tells about itself, at any moment."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.contest import COPY, Contest, Watcher
from support.processes import processes

from advcomp.rules.verdict import Verdict
from advcomp.terminal.console_tables import print_leaderboard
from advcomp.terminal.forecasting import print_forecast
from advcomp.terminal.inspecting import print_status
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.outcome.disclosure import TAIL_BYTES, tail
from advcomp.tournament.outcome.status import is_busy, remarks, status_of
from advcomp.tournament.outcome.under_way import FILE_NAME as UNDER_WAY
from advcomp.tournament.outcome.under_way import UnderWayHere, load_under_way
from advcomp.tournament.runner import RunOptions, run_tournament
from advcomp.tournament.store.job_results import JobResult, locked

SLEEP = "sleep 613.7"
PATIENCE_S = 120
CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'


@pytest.fixture
def file(contest: Contest) -> Path:
    return contest.file(
        [contest.entry("copy", COPY), contest.entry("crash", "exit 1")],
        [contest.entry("three", CONSTANT, "defense")],
    )


class StopsAfter(Watcher):
    """An observer that stops the run after so many jobs."""

    def __init__(self, jobs: int) -> None:
        super().__init__()
        self.left, self.stop = jobs, Stop()

    def finished(self, result: JobResult, cost: float) -> None:
        self.left -= 1
        if not self.left:
            self.stop.set()


def test_a_stopped_run_says_what_is_done_and_what_waits(contest: Contest, file: Path) -> None:
    watcher = StopsAfter(3)
    out = contest.folder / "run"
    run_tournament(RunOptions(file=file, out=out, jobs=1), watcher, watcher.stop)
    status = status_of(out)
    by_name = {entry.entry.name: entry for entry in status.entries}
    assert sum(len(entry.results) for entry in status.entries) == 3
    assert (by_name["copy"].jobs, by_name["crash"].jobs, by_name["three"].jobs) == (2, 2, 0)
    assert by_name["crash"].verdict is Verdict.CRASHED
    assert by_name["three"].verdict is None
    assert status.results is None
    assert status.waves == 0


@pytest.mark.parametrize(("times", "slow"), [(2.5, False), (4.5, True)])
def test_a_job_that_takes_three_times_its_estimate_is_named(
    contest: Contest, times: float, slow: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the entry's other jobs; where none has ended, nothing is estimated."""
    watcher = StopsAfter(1)
    out = contest.folder / "run"
    attacks = [contest.entry("copy", f"sleep 1; {COPY}"), contest.entry("crash", "exit 1")]
    file = contest.file(attacks, [])
    run_tournament(RunOptions(file=file, out=out, jobs=1), watcher, watcher.stop)
    (ended,) = (r for each in status_of(out).entries for r in each.results)
    assert ended.submission == "copy"
    names = "copy-eps8-0" if ended.max_epsilon == 32 else "copy-eps32-0", "crash-eps8-0"
    told = [{"job": n, "node": "one", "seconds": times * ended.wall_seconds} for n in names]
    (out / UNDER_WAY).write_text(json.dumps(told))
    with locked(out):
        print_status(out)
    lines = [line for line in capsys.readouterr().out.splitlines() if " runs on one for " in line]
    assert [" times its estimate of 1." in line for line in lines] == [slow, False]


def test_what_runs_on_this_machine_is_told_until_it_ends(tmp_path: Path) -> None:
    now = [100.0]
    here = UnderWayHere(tmp_path, clock=lambda: now[0])

    def fails() -> None:
        with here.doing("b-eps8-0"):
            written = (tmp_path / UNDER_WAY).stat().st_mtime
            told = {job.job: (job.node, written - job.since) for job in load_under_way(tmp_path)}
            assert told == {"a-eps8-0": ("", pytest.approx(30)), "b-eps8-0": ("", 0)}
            raise ValueError("of the job")

    with here.doing("a-eps8-0"):
        now[0] += 30.0
        with pytest.raises(ValueError, match="of the job"):
            fails()
        assert [job.job for job in load_under_way(tmp_path)] == ["a-eps8-0"]
    assert load_under_way(tmp_path) == []


class Looks(Watcher):
    """An observer that looks at what runs when it is told of an entry."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run, self.dead = run, False

    def read(self, entry: str) -> None:
        self.dead |= bool(load_under_way(self.run))


def test_a_run_tells_its_own_jobs_and_not_those_of_a_killed_referee(contest: Contest) -> None:
    """The job sleeps until it was seen."""
    out = contest.folder / "run"
    out.mkdir()
    (out / UNDER_WAY).write_text('[{"job": "dead", "node": "", "seconds": 1}]')
    file = contest.file([contest.entry("slow", f"{SLEEP}; {COPY}")], [], max_epsilons=[8])
    watcher, seen = Looks(out), list[str]()

    def look() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (
            not (sleeping := processes(SLEEP.replace(" ", "\0"))) and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        seen.extend(job.job for job in load_under_way(out))
        for process in sleeping:
            os.kill(process, signal.SIGKILL)

    onlooker = threading.Thread(target=look)
    onlooker.start()
    run_tournament(RunOptions(file=file, out=out, jobs=2), watcher, Stop())
    onlooker.join()
    assert (seen, watcher.dead) == (["slow-eps8-0"], False)
    assert not (out / UNDER_WAY).exists()


def test_a_finished_run_has_all_its_jobs_and_verdicts(contest: Contest, file: Path) -> None:
    done = contest.run(file)
    status = status_of(done.run)
    assert {entry.entry.name: (len(entry.results), entry.jobs) for entry in status.entries} == {
        "copy": (2, 2),
        "crash": (2, 2),
        "three": (3, 3),
    }
    assert status.results == done.results
    assert not status.busy


def test_a_rejected_entry_has_that_verdict_and_no_jobs(contest: Contest) -> None:
    bad = contest.entry("bad", COPY, kind="atack")
    done = contest.run(contest.file([bad], [contest.entry("three", CONSTANT, "defense")]))
    (rejected, _) = status_of(done.run).entries
    assert (rejected.verdict, rejected.jobs) == (Verdict.REJECTED, 0)


def test_a_folder_is_busy_while_its_lock_is_held(tmp_path: Path) -> None:
    assert not is_busy(tmp_path)
    with locked(tmp_path):
        assert is_busy(tmp_path)
    assert not is_busy(tmp_path)


def test_pooled_results_are_called_unofficial(contest: Contest) -> None:
    entries = [contest.entry("copy", COPY)], [contest.entry("three", CONSTANT, "defense")]
    pooled = contest.run(contest.file(*entries, view="pooled", name="pooled"))
    latin = contest.run(contest.file(*entries, view="latin", name="latin"))
    assert any("unofficial (pooled view" in remark for remark in remarks(pooled.run))
    assert not any("unofficial" in remark for remark in remarks(latin.run))


def test_a_tail_is_the_last_lines_and_few_bytes() -> None:
    assert tail(b"") == b""
    assert tail(b"\n".join(b"%d" % n for n in range(100))).split() == [
        b"%d" % n for n in range(80, 100)
    ]
    assert len(tail(b"x" * 10**6)) == TAIL_BYTES


@pytest.mark.parametrize(("seconds", "told"), [(1.1, True), (0.0, False)])
def test_runs_that_got_little_of_a_processor_are_told(
    seconds: float, told: bool, contest: Contest, capsys: pytest.CaptureFixture[str]
) -> None:
    attack = contest.entry("copy", f"sleep {seconds}; {COPY}")
    defense = contest.entry("three", f"sleep {seconds}; {CONSTANT}", "defense")
    file = contest.file([attack], [defense])
    run = contest.run(file).run
    print_status(run)
    print_forecast(file, run, None)
    print_leaderboard(run, "table")
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("processors: scarce") == 3 * told
