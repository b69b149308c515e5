"""`advcomp tune` as users call it: real entries, real runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from support.command import advcomp
from support.contest import Contest
from support.tunable import TUNE, tunable, tune_file

from advcomp.errors import MissingExtra
from advcomp.terminal.tuning import TuneOptions, tune_in_terminal

OWN = ("--sandbox", "none", "--i-trust-these-submissions", "--jobs", "1")


@pytest.mark.slow
def test_an_attack_is_tuned_and_then_meets_those_held_out_once(contest: Contest) -> None:
    file = tunable(
        contest,
        tune=TUNE.replace("first_images = 2\n", "").replace(
            "count = 4", "count = 2\nseed = 2\nimages = 5\ngrowth = 5"
        ),
    )
    study = contest.folder / "study"
    done = advcomp("tune", file, "--out", study, *OWN)
    assert done.exit_code == 0, done.output
    lines = (study / "best" / "copier.toml").read_text().splitlines()
    assert lines[1] == "# Whether it works."
    share = float(lines[2].split()[2])
    assert share >= 0.5, "what works"
    assert "best: trial" in done.output
    assert "score" in (study / "report.html").read_text()
    first = advcomp("tune", file, "--out", study, *OWN, "--final")
    assert first.exit_code == 0, first.output
    assert "held out: nine, on 1 images that no trial has met" in first.output
    (was, best) = json.loads((study / "final.json").read_text())["rows"]
    assert (was["trial"], was["score"], best["score"], best["gain"][0]) == (-1, 0, 1, 1)
    again = advcomp("tune", file, "--out", study, *OWN, "--final")
    assert "have been met before" in again.output
    assert again.output.count("score") == 2


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
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(study / "journal.log"))
    )
    trials = optuna.load_study(study_name="copier", storage=storage).trials
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
