"""The digits tournaments of the demo, against stored tables and against each other."""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.contest import CONSTANT, COPY, Contest, Watcher

from advcomp.rules.verdict import Verdict
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.machine import package_digest
from advcomp.tournament.outcome.collect import Collected, collect_finished
from advcomp.tournament.runner import RunOptions, run_tournament
from advcomp.tournament.store.sealed import seal, unseal
from advcomp.tournament.store.state import FILE_NAME, RESULTS, load_state

DIGITS = Path(__file__).parents[2] / "tournament" / "digits"
TOLERANCE = 2
"""Images by which a cell may differ from the stored one: floats differ between machines."""

Matrix = dict[tuple[str, str], int]


def play(file: Path, out: Path) -> tuple[Path, Watcher]:
    watcher = Watcher()
    done = run_tournament(RunOptions(file=file, out=out), watcher, Stop())
    assert done.results is not None
    return done.results, watcher


def matrices(results: Path) -> dict[str, Matrix]:
    return {
        str(path.relative_to(results)): dict(cells(path))
        for path in sorted(results.rglob("*_matrix.csv"))
    }


def cells(path: Path) -> list[tuple[tuple[str, str], int]]:
    with path.open(newline="") as file:
        return [
            ((row[""], attack), int(cell))
            for row in csv.DictReader(file)
            for attack, cell in row.items()
            if attack
        ]


DEMO = "ADVCOMP_DEMO_RUN"


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of `digits.toml`, run once.

    ADVCOMP_DEMO_RUN may name a run that `make demo` has just made. Its jobs are taken over if this
    very code made them; an entry, a limit or a sandbox that has changed runs again anyway.
    """
    run: Path = tmp_path_factory.mktemp("digits") / "pooled"
    demo = os.environ.get(DEMO)
    if demo and made_by_this_code(Path(demo)):
        shutil.copytree(Path(demo) / "jobs", run / "jobs")
    return play(DIGITS / "digits.toml", run)[0]


def made_by_this_code(run: Path) -> bool:
    return load_state(run).machine.get("package_digest") == package_digest()


def test_a_run_is_taken_over_from_the_same_code_alone(contest: Contest) -> None:
    """The digest stands in the run's state and in its results."""
    entries = contest.entry("noop", COPY), contest.entry("constant", CONSTANT, "defense")
    run = contest.run(contest.file([entries[0]], [entries[1]])).run
    assert made_by_this_code(run)
    state = unseal((run / FILE_NAME).read_bytes())
    manifest = json.loads((run / RESULTS / "results.json").read_text())["manifest"]
    assert manifest["machine"]["package_digest"] == state["machine"]["package_digest"]
    state["machine"]["package_digest"] = "0" * 64
    (run / FILE_NAME).write_bytes(seal(state))
    assert not made_by_this_code(run)


@pytest.mark.slow
def test_the_demo_gives_the_stored_tables(pooled: Path) -> None:
    with (pooled / "verdicts.csv").open(newline="") as file:
        assert {row["verdict"] for row in csv.DictReader(file)} == {Verdict.OK}
    found, stored = matrices(pooled), matrices(DIGITS / "expected")
    assert found.keys() == stored.keys()
    for name, matrix in stored.items():
        assert found[name].keys() == matrix.keys(), name
        far = {
            cell: (found[name][cell], count)
            for cell, count in matrix.items()
            if abs(found[name][cell] - count) > TOLERANCE
        }
        assert not far, name


@pytest.mark.slow
def test_random_noise_stays_below_every_gradient_attack(pooled: Path) -> None:
    """At every budget, in errors over all defenses; a targeted attack's errors count as well."""
    budgets = sorted(pooled.glob("eps-*"))
    assert [budget.name for budget in budgets] == ["eps-16", "eps-32", "eps-48"]
    for budget in budgets:
        errors: Counter[str] = Counter()
        for (_, attack), count in cells(budget / "error_matrix.csv"):
            errors[attack] += count
        noise = errors.pop("random_noise")
        assert errors.pop("noop") <= noise
        assert len(errors) == 6
        assert all(count > noise for count in errors.values()), (budget.name, noise, errors)


OFFICIAL_PART = ("fgsm", "attack_network")
"""Attacks that prove the official view's labels at one budget; the long set plays all."""


@pytest.mark.slow
def test_the_official_view_gives_the_same_labels_to_two_attacks(
    pooled: Path, tmp_path: Path
) -> None:
    file = tmp_path / "official.toml"
    file.write_text(with_attacks((DIGITS / "official.toml").read_text(), OFFICIAL_PART))
    official, other = play_official(pooled, file, tmp_path / "latin", attack_jobs=2)
    _, one = collect_finished(pooled.parent)
    names = [entry.name for entry in one.results.attacks]
    assert [entry.name for entry in other.results.attacks] == sorted(OFFICIAL_PART)
    pairs = one.results.pair_max_epsilon == 32
    assert np.array_equal(other.results.pair_image, one.results.pair_image[pairs])
    for at, name in enumerate(sorted(OFFICIAL_PART)):
        of_pooled = one.results.predictions[:, names.index(name)][:, pairs]
        assert np.array_equal(other.results.predictions[:, at], of_pooled), name
    assert np.array_equal(other.results.clean_predictions, one.results.clean_predictions)
    assert official.is_dir()


@pytest.mark.slow
@pytest.mark.long
def test_the_official_view_gives_the_same_labels(pooled: Path, tmp_path: Path) -> None:
    official, other = play_official(
        pooled, DIGITS / "official.toml", tmp_path / "latin", attack_jobs=24
    )
    assert matrices(official) == matrices(pooled)
    _, one = collect_finished(pooled.parent)
    assert np.array_equal(one.results.predictions, other.results.predictions)
    assert np.array_equal(one.results.clean_predictions, other.results.clean_predictions)


def play_official(
    pooled: Path, file: Path, out: Path, *, attack_jobs: int
) -> tuple[Path, Collected]:
    """A job's result depends on its inputs alone, so the attacks' images are taken over."""
    shutil.copytree(pooled.parent / "jobs", out / "jobs")
    official, watcher = play(file, out)
    assert watcher.stages[0] == ("attacks", 0, attack_jobs)
    _, collected = collect_finished(official.parent)
    return official, collected


def with_attacks(text: str, names: Sequence[str]) -> str:
    """A tournament file with these of its attacks, at a budget of 32 levels."""
    tables = [
        table
        for table in text.split("\n\n")
        if not table.startswith("[[entries.attacks]]")
        or any(f'/attacks/{name}"' in table for name in names)
    ]
    text = "\n\n".join(tables)
    for old, new in {
        "max_epsilons = [16, 32, 48]": "max_epsilons = [32]",
        '"../../': f'"{DIGITS.parents[1]}/',
        '"weights/': f'"{DIGITS}/weights/',
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_official_file_differs_in_its_name_and_view_alone() -> None:
    digits = (DIGITS / "digits.toml").read_text().splitlines()
    official = (DIGITS / "official.toml").read_text().splitlines()
    settings = [
        [line for line in lines if line and not line.startswith("#")]
        for lines in (digits, official)
    ]
    different = [pair for pair in zip(*settings, strict=True) if pair[0] != pair[1]]
    assert different == [
        ('name = "digits"', 'name = "official"'),
        ('view = "pooled"', 'view = "latin"'),
    ]
