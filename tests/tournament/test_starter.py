"""Starters as a competitor meets them: written, tested, linted, validated for real."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command import advcomp

from advcomp.cli import STARTERS, TEMPLATES
from advcomp.tournament.competitor.starter import Starter, Template

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[*STARTERS, "defense --template onnx"])
def starter(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What `init` writes for the words of the parameter, in a folder called as the first."""
    kind, *options = str(request.param).split()
    folder = tmp_path / "new" / kind
    assert advcomp("init", kind, folder, *options).exit_code == 0
    return folder


def program(starter: Path) -> Path:
    (found,) = starter.glob("run_*.py")
    return found


def test_the_command_offers_every_starter() -> None:
    assert list(STARTERS) == list(Starter)
    assert list(TEMPLATES) == list(Template)


def test_a_starter_is_valid_at_once(starter: Path) -> None:
    result = advcomp("validate", starter)
    assert result.exit_code == 0, result.output
    kind = starter.name.replace("-", "_")
    assert result.output.startswith(f"{starter.name} ({kind}): ")
    assert result.output.endswith(f"{starter.name}: valid\n")
    assert "note:" not in result.output


@pytest.mark.parametrize("starter", STARTERS, indirect=True)
def test_a_starter_brings_all_that_its_author_needs(starter: Path) -> None:
    role = "defense" if starter.name == "defense" else "attack"
    files = {str(path.relative_to(starter)) for path in starter.rglob("*") if path.is_file()}
    assert files == {
        *("Dockerfile", "README.md", "metadata.json", f"tests/test_{role}.py"),
        *(f"run_{role}.py", f"run_{role}.sh"),
    }


def test_the_programs_of_a_starter_are_tidy(starter: Path) -> None:
    config = ("--config", str(ROOT / "pyproject.toml"), str(starter))
    for command in (("format", "--check"), ("check", "--ignore", "D103")):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *config]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def own_tests(starter: Path) -> "subprocess.CompletedProcess[str]":
    """Runs the tests that the starter brings, with this interpreter as its python3."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(starter)]
    environment = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=starter, env=environment)


def test_the_tests_of_a_starter_pass(starter: Path) -> None:
    done = own_tests(starter)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("starter", "right", "wrong"),
    [
        ("attack", "np.clip(clean + step,", "np.clip(clean + 2 * step,"),
        ("targeted-attack", 'convert("RGB")', 'convert("RGB").resize((64, 64))'),
        ("defense", "return int(", "return -int("),
        ("defense --template onnx", "(scores.argmax(1) +", "(-1 - scores.argmax(1) -"),
    ],
    indirect=["starter"],
)
def test_the_tests_of_a_starter_find_a_broken_contract(
    starter: Path, right: str, wrong: str
) -> None:
    text = program(starter).read_text()
    assert right in text
    program(starter).write_text(text.replace(right, wrong))
    done = own_tests(starter)
    assert done.returncode == 1, done.stdout


@pytest.mark.parametrize("starter", ["attack"], indirect=True)
def test_the_attack_of_a_starter_spends_its_whole_budget(starter: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    clean = np.full((8, 9, 3), 128, np.uint8)
    Image.fromarray(clean).save(tmp_path / "in" / "a.png")
    command = [sys.executable, str(program(starter)), "in", "out", "8"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with Image.open(tmp_path / "out" / "a.png") as adversarial:
        assert set(np.asarray(adversarial).flat) == {120, 136}


def test_a_starter_is_written_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert advcomp("init", "defense", tmp_path / "mine").exit_code == 0
    assert (tmp_path / "mine" / "metadata.json").is_file()


def test_a_starter_never_touches_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = advcomp("init", "attack", tmp_path)
    assert result.exit_code == 1
    assert result.output == (
        f"advcomp: {tmp_path}: expected a new or an empty folder; "
        "got a folder with something in it; name another one\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("dangling", [False, True])
def test_a_starter_never_replaces_a_file_or_a_link(tmp_path: Path, dangling: bool) -> None:
    place = tmp_path / "place"
    if dangling:
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_text("mine")
    result = advcomp("init", "attack", place)
    assert result.exit_code == 1
    assert "expected a new or an empty folder; got something else" in result.output
    assert not (tmp_path / "elsewhere").exists()


def test_an_unknown_kind_of_starter_is_wrong_usage(tmp_path: Path) -> None:
    assert advcomp("init", "atack", tmp_path / "a").exit_code == 2
    assert not (tmp_path / "a").exists()
