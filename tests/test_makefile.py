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
    lines = [line for line in planned(checkout, "TORCH=cpu").splitlines() if "-m pip" in line]
    assert len(lines) == 2
    first = lines[0].partition("constraints.txt ")[2]
    index = "https://download.pytorch.org/whl/cpu"
    assert first == f"--no-deps --index-url {index} torch torchvision"
    assert "index" not in lines[1]
    assert "index" not in planned(checkout)
    refused = make(checkout, "--dry-run", "demo", "TORCH=gpu")
    assert "TORCH must be cuda or cpu; got gpu" in refused.stderr


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
