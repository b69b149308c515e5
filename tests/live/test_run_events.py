"""`advcomp run --json`: the events of a run that this process works on."""

import json
from pathlib import Path

import pytest
from conftest import Require
from support.command import advcomp
from support.contest import CONSTANT, COPY, Contest, write_greys
from support.run_folder import RunFolder

from advcomp.terminal.run_events import events_printed


def test_events_of_a_run_in_this_process_are_printed_until_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last look comes after the end, however short the run was."""
    folder = RunFolder(tmp_path / "run")
    with events_printed(folder.run), folder.at_work():
        folder.play()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == events[-1]["event"] == "state"
    assert (events[-1]["phase"], events[-1]["time_left_seconds"]) == ("finished", None)


def test_a_folder_that_never_becomes_a_run_has_no_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with events_printed(tmp_path):
        pass
    assert capsys.readouterr().out == ""


@pytest.mark.long
@pytest.mark.slow
def test_a_run_prints_its_events_and_at_last_its_state(tmp_path: Path, require: Require) -> None:
    require("bubblewrap")
    write_greys(tmp_path / "data", 2)
    contest = Contest(tmp_path)
    attacks = [contest.entry("copy", COPY), contest.entry("crash", "exit 7")]
    defenses = [contest.entry("three", CONSTANT, "defense")]
    file = contest.file(attacks, defenses, max_epsilons=[8], view="pooled")
    done = advcomp("run", file, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    ended = {event["job"]: event["verdict"] for event in events if event["event"] == "ended"}
    first = {"copy-eps8-0": "OK", "crash-eps8-0": "CRASHED", "three-wave1-0": "OK"}
    assert ended.items() <= first.items()
    assert events[0]["event"] == events[-1]["event"] == "state"
    last = events[-1]
    assert last["phase"] == "finished"
    assert [stage["done"] for stage in last["stages"]] == [2, 1]
    assert [failure["job"] for failure in last["failures"]] == ["crash-eps8-0"]
    assert "attacks: 2 jobs to run, 0 stored" in done.stderr
