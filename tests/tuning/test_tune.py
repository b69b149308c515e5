"""`advcomp tune` as users call it: real entries, real runs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from support.command import advcomp
from support.contest import IMAGES, Contest, write_greys
from support.tunable import TUNE, tunable, tune_file

from advcomp.errors import MissingExtra
from advcomp.terminal.tuning import TuneOptions, tune_in_terminal

TUNING = Path(__file__).resolve().parents[2] / "docs" / "tuning.md"

OWN = ("--sandbox", "none", "--i-trust-these-submissions", "--jobs", "1")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The file and the folder of a study of two trials, and what `advcomp tune` said."""
    contest = Contest(tmp_path_factory.mktemp("tuned"))
    write_greys(contest.folder / "data", IMAGES)
    file = tunable(
        contest,
        tune=TUNE.replace("first_images = 2\n", "").replace(
            "count = 4", "count = 2\nseed = 2\nimages = 5\ngrowth = 5"
        ),
    )
    study = contest.folder / "studies" / "copier"
    done = advcomp("tune", file, "--out", study, *OWN)
    assert done.exit_code == 0, done.output
    return file, study, done.output


@pytest.mark.slow
def test_an_attack_is_tuned_and_then_meets_those_held_out_once(
    tuned: tuple[Path, Path, str],
) -> None:
    file, study, output = tuned
    lines = (study / "best" / "copier.toml").read_text().splitlines()
    assert lines[1] == "# Whether it works."
    share = float(lines[2].split()[2])
    assert share >= 0.5, "what works"
    assert "best: trial" in output
    assert "score" in (study / "report.html").read_text()
    first = advcomp("tune", file, "--out", study, *OWN, "--final")
    assert first.exit_code == 0, first.output
    assert "held out: nine, on 1 images that no trial has met" in first.output
    (was, best) = json.loads((study / "final.json").read_text())["rows"]
    assert (was["trial"], was["score"], best["score"], best["gain"][0]) == (-1, 0, 1, 1)
    again = advcomp("tune", file, "--out", study, *OWN, "--final")
    assert "have been met before" in again.output
    assert again.output.count("score") == 2


@pytest.mark.slow
def test_whose_runs_fail_is_told_once(contest: Contest) -> None:
    tune = TUNE.replace("high = 1.0", "high = 0.4").replace("count = 4", "count = 2")
    done = advcomp("tune", tunable(contest, tune=tune), "--out", contest.folder / "study", *OWN)
    assert "trial 1: 6 images: score 0" in done.output
    assert done.output.count("copier: BAD_OUTPUT in 1 of its runs (1 in all): ") == 1


@pytest.mark.slow
def test_where_nobody_can_be_judged_it_is_said_why(contest: Contest) -> None:
    file = tunable(contest)
    entries = contest.folder / "entries_of_the_test"
    (entries / "copier" / "copier.toml").write_text("share = 1.0\n")
    (entries / "three" / "run.sh").write_text("#!/bin/sh\nexit 3\n")
    done = advcomp("tune", file, "--out", contest.folder / "study", *OWN)
    assert done.exit_code != 0
    assert "three: CRASHED in 1 of its runs (1 in all)" in done.output
    assert "expected an opponent that does all its work" in done.output


@pytest.mark.slow
def test_a_study_opens_in_optunas_dashboard(tuned: tuple[Path, Path, str]) -> None:
    """By the command of the documentation."""
    pytest.importorskip("optuna_dashboard")
    _, study, _ = tuned
    (typed,) = re.findall(r"^optuna-dashboard (.*)$", TUNING.read_text(), re.MULTILINE)
    storage = study.parents[1] / typed.replace("NAME", study.name)
    with dashboard(storage) as address:
        (summary,) = answer(f"{address}/api/studies")["study_summaries"]
        detail = answer(f"{address}/api/studies/{summary['study_id']}")
    assert (summary["study_name"], summary["directions"]) == ("copier", ["maximize"])
    assert detail["objective_names"] == ["score"]
    assert [space["name"] for space in detail["union_search_space"]] == ["share"]
    shown = [(t["state"], t["params"][0]["param_external_value"]) for t in detail["trials"]]
    trials = trials_of(study)
    assert shown == [(t.state.name.title(), str(t.params["share"])) for t in trials]
    assert [t["values"] for t in detail["trials"]] == [t.values for t in trials]


@contextmanager
def dashboard(storage: Path) -> Iterator[str]:
    """The address of an optuna-dashboard on this machine alone."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), str(storage), "--port", str(port), "--quiet"]
    with subprocess.Popen(command) as process:
        try:
            while not listens(port):
                assert process.poll() is None
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def listens(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def answer(address: str) -> Any:
    with urlopen(address, timeout=60) as told:
        return json.load(told)


def trials_of(study: Path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(study / "journal.log")))
    return optuna.load_study(study_name="copier", storage=storage).trials


def test_what_is_wrong_with_a_file_is_a_message(contest: Contest) -> None:
    file = tunable(contest, tune=TUNE.replace("high = 1.0", "high = -1.0"))
    done = advcomp("tune", file, *OWN)
    assert done.exit_code == 1
    assert "expected low below high" in done.output
    file = tune_file(contest, TUNE.replace('"three"', '"nine"'))
    done = advcomp("tune", file, *OWN)
    assert done.exit_code == 1
    assert '"nine" is marked held_out' in done.output


def test_without_optuna_the_extra_is_named(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'advcomp\[tune\]'"):
        tune_in_terminal(tune_file(contest, TUNE), TuneOptions())


@pytest.mark.long
@pytest.mark.parametrize("pruner", ["halving", "wilcoxon"])
def test_processes_share_a_study_and_one_that_is_stopped_loses_nothing(
    contest: Contest, pruner: str
) -> None:
    more = f'count = 8\npruner = "{pruner}"'
    file = tunable(contest, tune=TUNE.replace("count = 4", more))
    study = contest.folder / "study"
    command = [sys.executable, "-m", "advcomp", "tune", str(file), "--out", str(study), *OWN]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        while not first.stderr.readline().startswith("trial 0: share"):
            assert first.poll() is None
        os.kill(first.pid, signal.SIGINT)
        said = first.communicate()[1]
    assert first.returncode == 130, said
    assert "to go on: advcomp tune" in said
    with subprocess.Popen(command) as one, subprocess.Popen(command) as other:
        codes = one.wait(), other.wait()
    assert codes == (0, 0)
    trials = trials_of(study)
    ended = [t for t in trials if t.state.name in ("COMPLETE", "PRUNED")]
    assert len(ended) == 8
    assert all(t.state.is_finished() for t in trials)
    failed = [t.params for t in trials if t.state.name == "FAIL"]
    assert all(params in [t.params for t in ended] for params in failed)


@pytest.mark.long
def test_a_training_is_tuned_on_its_validation_classifiers(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    recipe = (root / "tournament" / "digits" / "attack_network.toml").read_text()
    recipe = recipe.replace('"weights/', f'"{root}/tournament/digits/weights/')
    for old, new in (
        ("steps = 2000", "steps = 6"),
        ("batch_size = 32", "batch_size = 4"),
        ("warm_up_steps = 30", "warm_up_steps = 1"),
        ("evaluate_every = 1000", "evaluate_every = 2"),
    ):
        assert old in recipe
        recipe = recipe.replace(old, new)
    (tmp_path / "recipe.toml").write_text(recipe)
    (tmp_path / "tune.toml").write_text(
        'name = "net"\nrecipe = "recipe.toml"\n[space]\n'
        "training.learning_rate = { low = 1e-4, high = 1e-2, log = true }\n"
        "[trials]\ncount = 3\n"
    )
    study = tmp_path / "study"
    done = advcomp("tune", tmp_path / "tune.toml", "--out", study)
    assert done.exit_code == 0, done.output
    text = (study / "best" / "recipe.toml").read_text()
    assert "learning_rate = 5e-3" in text or "learning_rate = 0.00" in text
    assert advcomp("tune", tmp_path / "tune.toml", "--out", study).exit_code == 0
