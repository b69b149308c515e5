"""What a look at a run's folder tells, at every point of a run; and what it never tells."""

import json
import re
from itertools import takewhile
from pathlib import Path

import pytest
from support.run_folder import SECRET_ID, RunFolder

from advcomp.errors import RunConflict
from advcomp.live.events import events_between
from advcomp.live.following import RunWatch
from advcomp.live.snapshot import Phase, RunSnapshot, Standing
from advcomp.rules.verdict import Verdict
from advcomp.tournament.config import LogPolicy
from advcomp.tournament.store.job_results import locked

EVENTS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "events.md"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def row(snapshot: RunSnapshot, name: str) -> Standing:
    (found,) = (row for row in snapshot.leaderboard if row.submission == name)
    return found


def waiting(snapshot: RunSnapshot) -> dict[str, int]:
    return {item.entry: item.jobs for item in snapshot.waiting}


def stages(snapshot: RunSnapshot) -> list[tuple[int, int]]:
    return [(stage.done, stage.jobs) for stage in snapshot.stages]


def test_a_run_is_told_from_its_first_job_to_its_results(folder: RunFolder) -> None:
    """Five columns: each defense has five jobs, which are planned before any attack has run."""
    watch = RunWatch(folder.run)
    assert watch.look().phase is Phase.STOPPED
    with folder.at_work(("noop-eps8-0", 3.0)):
        first = watch.look()
        assert first.phase is Phase.ATTACKS
        assert stages(first) == [(0, 4), (0, 10)]
        assert waiting(first) == {"fgsm": 2, "noop": 1, "right": 5, "wrong": 5}
        assert first.time_left_seconds is None
        folder.attack("noop", 8)
        assert [job.job for job in watch.look().running] == []
        for name, max_epsilon in (("noop", 32), ("fgsm", 8), ("fgsm", 32)):
            folder.attack(name, max_epsilon)
        folder.plan()
        folder.defend("right", 2)
        then = watch.look()
        assert then.phase is Phase.DEFENSES
        assert stages(then) == [(4, 4), (2, 10)]
        assert waiting(then) == {"right": 3, "wrong": 5}
        folder.defend("right")
        folder.defend("wrong")
        assert watch.look().phase is Phase.RESULTS
    assert watch.look().phase is Phase.STOPPED
    folder.finish()
    last = watch.look()
    assert (last.phase, last.waiting, last.time_left_seconds) == (Phase.FINISHED, (), None)
    assert all(not row.provisional and row.rank for row in last.leaderboard)


def test_an_entry_is_provisional_until_it_has_all_its_answers(folder: RunFolder) -> None:
    watch = RunWatch(folder.run)
    for name in ("noop", "fgsm"):
        folder.attack(name, 8)
        folder.attack(name, 32)
    folder.plan()
    before = row(watch.look(), "right")
    assert (before.score, before.answers, before.expected, before.rank) == (None, 0, 24, None)
    folder.defend("right", 1)
    some = row(watch.look(), "right")
    assert (some.score, some.provisional, some.rank) == (1.0, True, 1)
    assert 0 < some.answers < some.expected
    folder.defend("right")
    folder.defend("wrong", 1)
    snapshot = watch.look()
    right, wrong, fgsm = (row(snapshot, name) for name in ("right", "wrong", "fgsm"))
    assert (right.score, right.provisional, right.answers) == (1.0, False, 24)
    assert (wrong.score, wrong.provisional, wrong.rank) == (0.0, True, 2)
    assert fgsm.provisional
    assert 12 <= fgsm.answers < 24  # how many of them are in the shard of `wrong` is drawn
    assert fgsm.score == pytest.approx((fgsm.answers - 12) / fgsm.answers)
    folder.defend("wrong")
    fgsm = row(watch.look(), "fgsm")
    assert (fgsm.score, fgsm.provisional, fgsm.answers, fgsm.expected) == (0.5, False, 24, 24)


def test_an_attack_that_made_nothing_waits_for_no_answer(folder: RunFolder) -> None:
    watch = RunWatch(folder.run)
    folder.attack("fgsm", 8, verdict=Verdict.CRASHED)
    assert row(watch.look(), "fgsm").provisional, "its other job waits"
    folder.attack("fgsm", 32, verdict=Verdict.CRASHED)
    folder.attack("noop", 8)
    folder.attack("noop", 32)
    folder.plan()
    folder.defend("right", 1)
    snapshot = watch.look()
    crashed, played = row(snapshot, "fgsm"), row(snapshot, "noop")
    assert (crashed.provisional, crashed.score, crashed.answers, crashed.expected) == (
        *(False, None),
        *(0, 0),
    )
    assert played.provisional


def test_a_finished_run_has_the_leaderboard_of_its_results(folder: RunFolder) -> None:
    folder.play()
    stored = json.loads((folder.run / "results/results.json").read_text())["leaderboard"]
    snapshot = RunWatch(folder.run).look()
    assert [(r.submission, r.rank, r.score, r.low) for r in snapshot.leaderboard] == [
        (r["submission"], r["rank"], r["score"], r["score_low"]) for r in stored
    ]


def test_what_is_run_again_replaces_what_was_known(folder: RunFolder) -> None:
    watch = RunWatch(folder.run)
    folder.attack("noop", 8, verdict=Verdict.CRASHED, exit_code=7)
    (failure,) = watch.look().failures
    assert (failure.job, failure.why) == ("noop-eps8-0", "exit code 7")
    folder.attack("noop", 8)
    assert watch.look().failures == ()
    (job,) = (path for path in (folder.run / "jobs").iterdir() if path.name[0] != ".")
    folder.store.delete(job.name)
    assert stages(watch.look())[0] == (0, 4)


def test_a_killed_referee_leaves_nothing_that_runs_and_a_resumed_one_is_seen(
    folder: RunFolder,
) -> None:
    watch = RunWatch(folder.run)
    with folder.at_work(("noop-eps8-0", 3.0)):
        assert [job.job for job in watch.look().running] == ["noop-eps8-0"]
    after = watch.look()  # what it wrote is still there; its lock is not
    assert (after.phase, after.running) == (Phase.STOPPED, ())
    with folder.at_work(("noop-eps32-0", 0.0)):
        again = watch.look()
    assert (again.phase, [job.job for job in again.running]) == (Phase.ATTACKS, ["noop-eps32-0"])


def test_time_left_spans_both_stages_and_counts_what_runs(folder: RunFolder) -> None:
    """Attacks' jobs of six images may take 10 s and took 4; a defense's of six, five of them."""
    folder.attack("noop", 8)
    now = [0.0]
    watch = RunWatch(folder.run, clock=lambda: now[0])
    with folder.at_work(("noop-eps32-0", 0.0)):
        now[0] = (folder.run / "under_way.json").stat().st_mtime
        left = watch.look().time_left_seconds
        # noop 4 s, fgsm twice 0.4 x 10 s, ten jobs of defenses of 6 images (0.4 x 10 s) each
        assert left is not None
        assert left == pytest.approx(4 + 2 * 4 + 10 * 4)
        now[0] += 3.0
        assert watch.look().time_left_seconds == pytest.approx(left - 3)
        now[0] += 60.0
        (slow,) = watch.look().running
        assert slow.seconds == pytest.approx(63)
        assert slow.expected_seconds == pytest.approx(4)
        assert watch.look().time_left_seconds == pytest.approx(left - 4)


@pytest.mark.parametrize(
    ("show", "told"), [("smoke", None), ("tail", "the end"), ("full", "the end")]
)
def test_a_log_is_shown_as_the_tournament_file_says(
    tmp_path: Path, show: str, told: str | None
) -> None:
    folder = RunFolder(tmp_path / "run", show=LogPolicy(show))
    log = b"the beginning\n" + b"x\n" * 200 + b"\x1b[31mred /secret/place/file\nthe end\n"
    folder.attack("fgsm", 8, verdict=Verdict.CRASHED, exit_code=1, log=log)
    (failure,) = RunWatch(folder.run).look().failures
    assert (failure.log or "").splitlines()[-1:] == ([told] if told else [])
    assert "the beginning" not in (failure.log or "")
    assert "\x1b" not in (failure.log or "")
    assert "/secret" not in (failure.log or "")


def test_no_true_label_image_key_or_place_is_told(tmp_path: Path) -> None:
    """Notes of jobs name hidden images; every label of this run is above 39."""
    folder = RunFolder(tmp_path / "run", show=LogPolicy.FULL)
    folder.reject("bad", "/secret/place/metadata.json: no type")
    folder.play()
    folder.attack("noop", 8, verdict=Verdict.PARTIAL, notes=(f"{SECRET_ID}-1.png: none",))
    told = json.dumps(RunWatch(folder.run).look().as_json())
    assert "noop-eps8-0" in told
    for secret in (SECRET_ID, "secret/place", "digest", folder.key.secret.hex(), "40, 41"):
        assert secret not in told
    assert not any(path.name in told for path in (folder.run / "jobs").iterdir())


def test_a_rejected_entry_waits_for_nothing(folder: RunFolder) -> None:
    folder.reject("bad", "metadata.json: no type")
    snapshot = RunWatch(folder.run).look()
    assert "bad" not in waiting(snapshot)
    assert (row(snapshot, "bad").verdict, row(snapshot, "bad").provisional) == ("REJECTED", False)
    assert [(f.job, f.entry, f.why) for f in snapshot.failures] == [
        (None, "bad", "metadata.json: no type")
    ]


def test_a_folder_that_is_no_run_is_refused_unless_one_begins_there(tmp_path: Path) -> None:
    with pytest.raises(RunConflict, match="expected the folder of a run"):
        RunWatch(tmp_path).look()
    with locked(tmp_path):
        assert RunWatch(tmp_path).look().phase is Phase.READING


def test_looking_changes_nothing(folder: RunFolder) -> None:
    folder.attack("noop", 8)

    def listed() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in folder.run.rglob("*")}
        return {path: (facts.st_ino, facts.st_mtime_ns) for path, facts in found.items()}

    before = listed()
    RunWatch(folder.run).look()
    assert listed() == before


def test_events_tell_what_happened_between_two_looks(folder: RunFolder) -> None:
    watch, told = RunWatch(folder.run), []
    before: RunSnapshot | None = None

    def look() -> list[str]:
        nonlocal before
        after = watch.look()
        events = list(events_between(before, after))
        before = after
        told.extend(events)
        return [str(event["event"]) for event in events]

    assert look() == ["state"]
    with folder.at_work(("noop-eps8-0", 0.0)):
        assert look() == ["phase", "started"]
        folder.attack("noop", 8)
        assert look() == ["ended", "leaderboard"]
        assert look() == []
        folder.play()
    assert look()[-3:] == ["phase", "leaderboard", "state"]
    (ended,) = (e for e in told if e["event"] == "ended" and e["job"] == "noop-eps32-0")
    assert {name: ended[name] for name in ("entry", "verdict", "seconds", "images", "valid")} == {
        "entry": "noop",
        "verdict": "OK",
        "seconds": 4.0,
        "images": 6,
        "valid": 6,
    }
    assert {event["version"] for event in told} == {1}
    assert all(isinstance(event["at"], float) for event in told)
    json.dumps(told)


def test_events_have_the_documented_fields_and_no_others(folder: RunFolder) -> None:
    """And `state` the documented ones of its jobs, entries and failures."""
    watch = RunWatch(folder.run)
    before = watch.look()
    folder.attack("noop", 32, verdict=Verdict.CRASHED)
    with folder.at_work(("noop-eps8-0", 3.0)):
        now = watch.look()
    told = {event["event"]: event for event in (now.as_json(), *events_between(before, now))}
    events = documented("| `event` | when |", column=3)
    assert {name: set(event) - {"version", "event", "at"} for name, event in told.items()} == {
        **events,
        "state": set(documented("| field | value |", column=2)),
    }
    assert {event["version"] for event in told.values()} == {1}
    inner = documented("| field | value |", column=2)
    for name in ("running", "waiting", "leaderboard", "failures"):
        (first, *_) = json.loads(json.dumps(now.as_json()))[name]
        assert set(first) <= inner[name], name


def documented(head: str, column: int) -> dict[str, set[str]]:
    """First column of a table of the reference -> the names in another one."""
    lines = EVENTS.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(head))
    rows = (line.split("|") for line in takewhile(str.strip, lines[start + 2 :]))
    return {
        name: set(re.findall(r"`(\w+)`", row[column]))
        for row in rows
        for name in re.findall(r"`(\w+)`", row[1])
    }
