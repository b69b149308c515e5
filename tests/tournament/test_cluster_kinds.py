"""Clusters that a run starts itself, with their real engines: it comes to the same on each."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Require
from support.command import advcomp
from support.contest import COPY, SMALL, Contest
from support.dask_cluster import outcome, referee, wait_until
from support.namespaces import Network, network
from support.ssh_hosts import ssh_hosts

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


@pytest.fixture
def far(require: Require) -> Iterator[Network]:
    """Two machines, as far as the network can tell."""
    require("namespaces")
    with network("one", "two") as made:
        yield made


@pytest.fixture
def ssh_file(
    far: Network, tls: dict[str, Path], tmp_path: Path, require: Require
) -> Iterator[Path]:
    """A cluster file of the two machines."""
    require("sshd")
    with ssh_hosts(far, tmp_path) as access:
        path = tmp_path / "cluster.toml"
        files = "".join(f'{name} = "{file.name}"\n' for name, file in tls.items())
        node = "[node]\ncpus = 1\n[nodes]\nleast = 2\n"
        path.write_text(f'kind = "ssh"\n{access.table}[tls]\n{files}{node}')
        yield path


@pytest.mark.long
def test_machines_that_are_reached_by_ssh(
    played: tuple[Path, Path], far: Network, ssh_file: Path, tmp_path: Path
) -> None:
    """The scheduler and a worker on one machine, a worker on the other; nothing stays there."""
    file, here = played
    run = tmp_path / "run"
    running = referee(file, run, "--cluster", ssh_file, "--key", here / "key")
    assert running.ends() == 0, running.said
    wait_until(
        lambda: {*far.processes("one"), *far.processes("two")} == {"sshd"},
        "the workers to end",
        30,
    )
    assert outcome(run) == outcome(here)


def told_of(contest: Contest, ssh_file: Path, old: str, new: str) -> str:
    """What a run says, and ends with, where its file of machines has something else."""
    file = contest.file([contest.entry("noop", COPY)], [], more=SMALL)
    ssh_file.write_text(ssh_file.read_text().replace(old, new))
    ran = advcomp("run", file, "--out", contest.folder / "run", "--cluster", ssh_file)
    assert ran.exit_code == ClusterError.exit_code
    return ran.output


@pytest.mark.long
def test_a_machine_without_python_is_told_in_its_own_words(
    contest: Contest, ssh_file: Path
) -> None:
    told = told_of(contest, ssh_file, "[ssh]", '[ssh]\npython = "/nowhere/python3"')
    assert 'kind = "ssh": expected to start Dask on each of [ssh] hosts; got: ' in told
    assert "/nowhere/python3" in told


@pytest.mark.long
def test_a_machine_that_refuses_the_key_is_told(contest: Contest, ssh_file: Path) -> None:
    told = told_of(contest, ssh_file, 'user = "root"', 'user = "nobody"')
    assert "Permission denied for user nobody" in told


@pytest.mark.long
@pytest.mark.parametrize("store", ["shared", "wire"])
def test_processes_of_this_machine(played: tuple[Path, Path], tmp_path: Path, store: str) -> None:
    file, here = played
    spread = tmp_path / "cluster.toml"
    nodes = "[node]\ncpus = 1\n[nodes]\nleast = 2\nmost = 2\n"
    spread.write_text(f'kind = "local"\nstore = "{store}"\n{nodes}')
    run = tmp_path / "run"
    running = referee(file, run, "--cluster", spread, "--key", here / "key")
    assert running.ends() == 0, running.said
    assert outcome(run) == outcome(here)


@pytest.mark.long
@pytest.mark.mpi
def test_ranks_of_mpi(played: tuple[Path, Path], tmp_path: Path, require: Require) -> None:
    """A scheduler, the referee and two workers; of them all, the referee alone speaks."""
    require("mpi")
    file, here = played
    run = tmp_path / "run"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    mpiexec = shutil.which("mpiexec", path=path)
    assert mpiexec is not None
    launcher = (mpiexec, "--allow-run-as-root", "--oversubscribe", "-n", "4")
    running = referee(file, run, "--cluster", "mpi", "--key", here / "key", enter=launcher)
    assert running.ends() == 0, running.said
    assert outcome(run) == outcome(here)
    assert "distributed" not in running.said
    assert "Traceback" not in running.said
