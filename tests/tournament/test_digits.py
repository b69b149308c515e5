"""The digits tournaments of the demo, against stored tables and against each other."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.contest import Watcher

from advcomp.rules.verdict import Verdict
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.outcome.collect import collect_finished
from advcomp.tournament.runner import RunOptions, run_tournament

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


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watcher]:
    """`digits.toml`, run once."""
    return play(DIGITS / "digits.toml", tmp_path_factory.mktemp("digits") / "pooled")


@pytest.mark.slow
def test_the_demo_gives_the_stored_tables(pooled: tuple[Path, Watcher]) -> None:
    results, watcher = pooled
    assert {result.verdict for result in watcher.results} == {Verdict.OK}
    found, stored = matrices(results), matrices(DIGITS / "expected")
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
def test_random_noise_stays_below_every_gradient_attack(pooled: tuple[Path, Watcher]) -> None:
    """At every budget, in errors over all defenses; a targeted attack's errors count as well."""
    results, _ = pooled
    budgets = sorted(results.glob("eps-*"))
    assert [budget.name for budget in budgets] == ["eps-16", "eps-32", "eps-48"]
    for budget in budgets:
        errors: Counter[str] = Counter()
        for (_, attack), count in cells(budget / "error_matrix.csv"):
            errors[attack] += count
        noise = errors.pop("random_noise")
        assert errors.pop("noop") <= noise
        assert len(errors) == 6
        assert all(count > noise for count in errors.values()), (budget.name, noise, errors)


@pytest.mark.slow
def test_the_official_view_gives_the_same_labels(
    pooled: tuple[Path, Watcher], tmp_path: Path
) -> None:
    """A job's result depends on its inputs alone, so the attacks' images are taken over."""
    results, _ = pooled
    shutil.copytree(results.parent / "jobs", tmp_path / "latin" / "jobs")
    official, watcher = play(DIGITS / "official.toml", tmp_path / "latin")
    assert watcher.stages[0] == ("attacks", 0, 24)
    assert matrices(official) == matrices(results)
    _, one = collect_finished(results.parent)
    _, other = collect_finished(official.parent)
    assert np.array_equal(one.results.predictions, other.results.predictions)
    assert np.array_equal(one.results.clean_predictions, other.results.clean_predictions)


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
