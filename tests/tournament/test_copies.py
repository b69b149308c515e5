"""Old copies in a run's folder, and the command that removes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.contest import CONSTANT, COPY, Contest

from advcomp.errors import RunConflict
from advcomp.sandbox.doctor.garbage import remove_all
from advcomp.tournament.entry.copies import old_copies, runs_below
from advcomp.tournament.runner import rescore
from advcomp.tournament.store.job_results import locked


@pytest.fixture
def run(contest: Contest) -> Path:
    """A run whose attack was replaced, killed once while it took an entry."""
    attack = contest.entry("copy", COPY)
    file = contest.file([attack], [contest.entry("constant", CONSTANT, "defense")])
    file.write_text(file.read_text().replace("[8, 32]", "[8]"))
    first = contest.run(file).run
    (attack / "run.sh").write_text(f"#!/bin/sh\n# again\n{COPY}\n")
    finished = contest.run(file)
    assert finished.run == first
    (first / "entries/.half-taken").mkdir()
    return first


def test_only_copies_that_the_run_does_not_use_go(run: Path) -> None:
    used = {entry["digest"] for entry in state(run)["entries"]}
    before = {path.name for path in (run / "entries").iterdir()}
    assert len(before) == 4
    found = list(old_copies(run))
    assert {Path(garbage.name).name for garbage in found} == before - used
    with locked(run):
        assert len(remove_all(found)[1]) == 2  # in use
        with pytest.raises(RunConflict):
            list(old_copies(run))
    assert remove_all(found) == (found, [])
    assert {path.name for path in (run / "entries").iterdir()} == used
    assert rescore(run).results is not None


def test_the_command_says_what_it_would_free_and_what_it_has_freed(run: Path) -> None:
    assert runs_below(run.parent) == runs_below(run) == [run]
    folder = run.parents[1]

    def gc(*options: str) -> str:
        command = [sys.executable, "-m", "advcomp.cli", "gc", *options]
        done = subprocess.run(
            command,
            cwd=folder,
            env={"PATH": "/nowhere", "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    dry = gc("--dry-run")
    assert dry.count("old copy of an entry: runs/contest/entries/") == 2
    assert "would free " in dry
    assert "2 old copies of an entry" in dry
    assert len(list((run / "entries").iterdir())) == 4
    assert "freed " in gc()
    assert len(list((run / "entries").iterdir())) == 2
    assert gc().endswith("freed 0 bytes: nothing to remove\n")


def state(run: Path) -> dict[str, list[dict[str, str]]]:
    text = (run / "run.json").read_text()
    found = json.loads(text[text.index("{") :])
    return dict(found.get("content", found))
