"""Every test is of exactly one set: `make test` runs it, or `make test-all` does besides."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def options(target: str) -> list[str]:
    """What a target of the Makefile tells pytest, which it calls once."""
    said = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (call,) = (line for line in said.splitlines() if line.startswith(".venv/bin/pytest"))
    return call.split()[1:]


def collected(target: str) -> list[str]:
    """The tests that a target runs, by what pytest calls them."""
    command = [str(Path(sys.executable).with_name("pytest")), *options(target)]
    command += ["--collect-only", "--quiet", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("tests/")]


def written(file: Path) -> list[str]:
    """The tests that stand in a file, as pytest would call them without parameters."""
    module = file.relative_to(ROOT).as_posix()
    defined = (n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef))
    return [
        f"{module}::{function.name}" for function in defined if function.name.startswith("test")
    ]


@pytest.fixture(scope="module")
def short() -> list[str]:
    return collected("test")


@pytest.fixture(scope="module")
def whole() -> list[str]:
    return collected("test-all")


def test_every_test_is_of_one_of_the_two_sets(short: list[str], whole: list[str]) -> None:
    assert len(whole) == len(set(whole))
    assert set(short) < set(whole)
    names = {name.partition("[")[0] for name in whole}
    standing = [name for file in (ROOT / "tests").rglob("*.py") for name in written(file)]
    assert len(standing) == len(set(standing)), "a second test of a name replaces the first one"
    assert set(standing) == names


def test_each_promise_is_tried_in_the_short_set(short: list[str], whole: list[str]) -> None:
    """With some parameters at least; but for what goes by a name of its own there."""
    functions = [{name.partition("[")[0] for name in names} for names in (whole, short)]
    assert functions[0] - functions[1] == {
        "tests/tournament/test_digits.py::test_the_official_view_gives_the_same_labels",
    }
