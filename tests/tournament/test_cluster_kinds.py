"""Clusters that a run starts itself, with their real engines: it comes to the same on each."""

import subprocess
from pathlib import Path

import pytest
from conftest import Require
from support.command import advcomp
from support.contest import COPY, SMALL, Contest
from support.dask_cluster import outcome, wait_until

from advcomp.errors import ClusterError

pytestmark = pytest.mark.slow

SLURM = """\
kind = "slurm"
[node]
cpus = 1
memory = "{memory}"
interface = "lo"
[nodes]
least = 2
most = 2
[slurm]
queue = "all"
time = "00:10:00"
"""


def jobs_of_slurm(user_home: Path) -> str:
    """Those that were submitted with this home."""
    asked = ["squeue", "--noheader", "--format", "%o %Z %t"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    return "".join(line for line in told.splitlines() if str(user_home) in line)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home and working folder; what Slurm starts has them, too."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slurm
def test_batch_jobs_of_slurm(
    played: tuple[Path, Path], home: Path, tmp_path: Path, require: Require
) -> None:
    require("slurm")
    file, here = played
    spread = tmp_path / "cluster.toml"
    spread.write_text(SLURM.format(memory="1 GiB"))
    run = tmp_path / "run"
    ran = advcomp("run", file, "--out", run, "--cluster", spread, "--key", here / "key")
    assert ran.exit_code == 0, ran.output
    assert outcome(run) == outcome(here)
    wait_until(lambda: not jobs_of_slurm(home), "its batch jobs to end")
    kept = {path.suffix for path in (home / ".advcomp-cluster").iterdir()}
    assert kept == {".err", ".out"}, "logs are kept, certificates are not"
    assert not list(home.glob("slurm-*")), "nothing is left where the command was typed"


@pytest.mark.slurm
def test_what_slurm_refuses_is_told_at_once(
    contest: Contest, home: Path, tmp_path: Path, require: Require
) -> None:
    require("slurm")
    file = contest.file([contest.entry("noop", COPY)], [], more=SMALL)
    spread = tmp_path / "cluster.toml"
    spread.write_text(SLURM.format(memory="900 TiB"))
    ran = advcomp("run", file, "--out", tmp_path / "run", "--cluster", spread)
    assert ran.exit_code == ClusterError.exit_code
    assert "Slurm: expected sbatch to take a job for each of 2 node(s); it said:" in ran.output
    assert "  sbatch: error: Memory specification can not be satisfied" in ran.output
    assert "  #SBATCH --mem=921600G" in ran.output
    assert not jobs_of_slurm(home)
