"""What `make demo` says and does, as far as it can be told without installing anything."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SH, MAKE = shutil.which("sh"), shutil.which("make")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    return tmp_path


def make(checkout: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    assert MAKE is not None
    return subprocess.run(
        [MAKE, "--no-print-directory", *words],
        cwd=checkout,
        env={"PATH": path or "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def planned(checkout: Path, *words: str) -> str:
    done = make(checkout, "--dry-run", "demo", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_says_what_it_takes_before_it_downloads_anything(checkout: Path) -> None:
    told, call, rest = planned(checkout).partition("make --no-print-directory play\n")
    assert call
    assert "3.3 GB" in told
    assert "6.5 GB" in told
    assert "minutes" in told
    assert "pip install" not in told
    assert "pip install" in rest


def test_without_a_gpu_both_packages_come_from_pytorchs_index_and_no_other(checkout: Path) -> None:
    said = planned(checkout, "TORCH=cpu").splitlines()
    first, second = (
        line.partition("constraints.txt ")[2] for line in said if line.startswith("with()")
    )
    index = "https://download.pytorch.org/whl/cpu"
    assert first == f"--no-deps --index-url {index} torch torchvision"
    assert second == "--editable '.[all]'"
    assert "index" not in planned(checkout)
    refused = make(checkout, "--dry-run", "demo", "TORCH=gpu")
    assert "TORCH must be cuda or cpu; got gpu" in refused.stderr


@pytest.mark.parametrize("said", [(), ("INSTALLER=pip",)])
def test_pip_installs_what_uv_cannot_and_all_where_it_is_asked(
    checkout: Path, said: tuple[str, ...]
) -> None:
    """A venv whose `uv` fails, as behind an index that pip alone is told of."""
    programs = checkout / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "pip").touch()
    for name, program in {"uv": "exit 1", "python": 'echo "$@" >> python-ran'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{program}\n")
        (programs / name).chmod(0o755)
    done = make(checkout, ".venv/installed-all", *said)
    assert done.returncode == 0, done.stderr
    assert ("uv could not install this; pip tries." in done.stderr) == (not said)
    (ran,) = (checkout / "python-ran").read_text().splitlines()
    assert ran.startswith("-m pip install ")
    assert ran.endswith("-c constraints.txt --editable .[all]")


def test_an_installer_that_is_none_is_named(checkout: Path) -> None:
    refused = make(checkout, "--dry-run", "demo", "INSTALLER=conda")
    assert "INSTALLER must be uv or pip; got conda" in refused.stderr


def test_where_no_bubblewrap_can_be_had_the_way_on_is_named(checkout: Path) -> None:
    assert SH is not None
    (checkout / "bin").mkdir()
    (checkout / "bin/sh").symlink_to(SH)
    done = make(checkout, "bubblewrap", path=str(checkout / "bin"))
    assert done.returncode == 2
    assert "sudo apt-get install bubblewrap" in done.stderr
    assert "make demo SANDBOX=none" in done.stderr


def test_without_walls_only_the_demos_own_entries_play_and_it_is_said(checkout: Path) -> None:
    said = planned(checkout, "SANDBOX=none")
    assert "--sandbox none" in said
    assert "--i-trust-these-submissions" in said
    assert "bwrap" not in said
    assert "--i-trust" not in planned(checkout) + planned(checkout, "SANDBOX=docker")
    alone = make(checkout, "unwalled")
    assert alone.returncode == 0
    assert "WITHOUT WALLS" in alone.stderr
    (checkout / "tournament/digits/entries").mkdir(parents=True)
    refused = make(checkout, "unwalled")
    assert refused.returncode == 2
    assert "others were submitted" in refused.stderr
    assert "WITHOUT WALLS" not in refused.stderr
