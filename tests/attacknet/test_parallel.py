"""Ranks under real launchers: the same training as in one process, and nobody hangs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from advcomp.errors import InvalidConfig
from advcomp.training.launch import Launch, first_host, launched, let_the_first_speak, rank_told
from advcomp.training.ranks import Ranks

ROOT = Path(__file__).parents[2]
RANK = ROOT / "tests" / "support" / "training_rank.py"
MPIEXEC = ("mpiexec", "--allow-run-as-root", "--oversubscribe")
SRUN = ("srun", "--overcommit", "--kill-on-bad-exit")

Require = Callable[[str], None]
Toy = Callable[..., Path]
Steps = list[tuple[float, list[Tensor], list[int]]]


def environment() -> dict[str, str]:
    """As a user's shell has it; one thread, and modules from this checkout."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def launch(command: Sequence[str], timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
    )


def steps(
    recipe: Path, model_ranks: Sequence[int] = (1,), launcher: Sequence[str] = (sys.executable,)
) -> list[Steps]:
    """The steps of a recipe for each number of ranks in a group."""
    out = recipe.with_name("steps")
    done = launch([*launcher, str(RANK), str(recipe), str(out), *map(str, model_ranks)])
    assert done.returncode == 0, done.stderr
    return [torch.load(f"{out}-{count}.pt") for count in model_ranks]


def mpiexec(ranks: int) -> list[str]:
    return [*MPIEXEC, "-n", str(ranks), sys.executable]


def srun(ranks: int) -> list[str]:
    return [*SRUN, "-n", str(ranks), sys.executable]


def assert_same(found: Steps, expected: Steps) -> None:
    assert len(found) == len(expected) > 0
    for (loss, gradients, _), (own_loss, own_gradients, _) in zip(found, expected, strict=True):
        assert loss == pytest.approx(own_loss, rel=1e-9, abs=1e-9)
        for one, other in zip(gradients, own_gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def recipe(toy_of_the_module: Toy) -> Path:
    """Five classifiers, which no two ranks share evenly, and all that could come between."""
    return toy_of_the_module(
        ("[[validation]]", '[[targets]]\nweights = "v.safetensors"\n[[validation]]'),
        ("[[targets]]\n", '[[targets]]\nfeature_layer = "network.1"\n'),
        ("margin = 1.0\n", "margin = 1.0\nfeature_distance = 0.3\nimitation = 0.4\n"),
        ("[training]\n", '[teacher]\nsurrogates = ["c0.safetensors"]\n[training]\n'),
        ("clip_norm = 1000.0", "clip_norm = 0.5"),
        ('"float64"', '"float64"\nchannels_last = true'),
        ('"block_shuffle"', '"block_shuffle"\n[[transforms]]\nname = "scale"'),
    )


@pytest.fixture(scope="module")
def alone(recipe: Path) -> Steps:
    """The steps of one process, to which every launcher's are held."""
    (found,) = steps(recipe)
    assert [held for _, _, held in found] == [[0, 1, 2, 3, 4]] * 4
    assert len({loss for loss, _, _ in found}) == 4
    assert all(sum(g.abs().sum() for g in gradients) > 0 for _, gradients, _ in found)
    return found


@pytest.mark.mpi
@pytest.mark.slow
def test_every_grid_takes_the_steps_of_one_process(
    recipe: Path, alone: Steps, require: Require
) -> None:
    """Losses and gradients, step for step: 2 and 4 ranks, data x model in every way."""
    require("mpi")
    for ranks, grids in [(2, [1, 2]), (4, [1, 2, 4])]:
        for count, found in zip(grids, steps(recipe, grids, mpiexec(ranks)), strict=True):
            assert_same(found, alone)
            assert [held for _, _, held in found] == [list(range(0, 5, count))] * 4


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.long
def test_a_network_that_is_told_gradients_by_the_pixel_takes_the_same_steps(
    toy: Toy, require: Require
) -> None:
    require("mpi")
    recipe = toy(
        (
            'mode = "recurrent"\nsurrogate = "c0.safetensors"\n'
            'layers = ["network.0", "network.1"]\n',
            '[gradients]\ncount = 2\nsurrogates = ["c0.safetensors", "c1.safetensors"]\n',
        ),
        ("[network]\n", '[network]\noutput = "sign"\nfilter_size = 3\n'),
        ("batch_size = 8", "batch_size = 8\ntargets_per_image = 1"),
        ('"float64"', '"float64"\nrecompute = true'),
    )
    (alone,) = steps(recipe)
    assert len({loss for loss, _, _ in alone}) == 4
    for count, found in zip([1, 2], steps(recipe, [1, 2], mpiexec(2)), strict=True):
        assert_same(found, alone)
        assert [held for _, _, held in found] == [list(range(0, 4, count))] * 4


@pytest.mark.slow
def test_torchrun_takes_the_same_steps(recipe: Path, alone: Steps) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    (found,) = steps(recipe, [2], torchrun)
    assert_same(found, alone)


@pytest.mark.slurm
@pytest.mark.slow
def test_srun_takes_the_same_steps(recipe: Path, alone: Steps, require: Require) -> None:
    require("slurm")
    (found,) = steps(recipe, [2], srun(2))
    assert_same(found, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "needs"),
    [
        pytest.param(mpiexec(2), "mpi", marks=pytest.mark.mpi, id="mpiexec"),
        pytest.param(srun(2), "slurm", marks=pytest.mark.slurm, id="srun"),
    ],
)
def test_an_exception_on_one_rank_ends_the_job_with_its_message(
    launcher: list[str], needs: str, toy: Toy, require: Require, tmp_path: Path
) -> None:
    """The second rank alone holds a classifier whose weights are broken."""
    require(needs)
    recipe = toy()
    broken = tmp_path / "c1.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    start = time.monotonic()
    done = launch([*launcher, str(RANK), str(recipe), str(tmp_path / "steps"), "2"])
    assert time.monotonic() - start < 240
    assert done.returncode != 0
    assert f"advcomp: rank 1: {broken}: " in done.stderr
    assert "rank 0:" not in done.stderr


def two_of_slurm(job: int) -> dict[str, str]:
    """What srun tells each of two ranks; jobs of different numbers take different ports."""
    return {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_JOB_ID": str(os.getpid() + job),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("present", "missing"), [("0", "rank 1"), ("1", "rank 0 to listen")])
def test_a_missing_rank_is_named_in_time(present: str, missing: str, toy: Toy) -> None:
    program = (
        "from advcomp.training.launch import launched; from advcomp.training.ranks import *\n"
        "launch = launched()\n"
        "with abort_together(launch), joined_ranks(launch, device='cpu', timeout_s=3):\n"
        "    print('joined')"
    )
    variables = two_of_slurm(1) | {"SLURM_PROCID": present}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert missing in done.stderr
    assert "Traceback" not in done.stderr
    assert "joined" not in done.stdout


@pytest.mark.slow
def test_a_rank_that_is_killed_is_told_by_the_others() -> None:
    program = (
        "import os; from advcomp.training.launch import launched\n"
        "from advcomp.training.ranks import *\n"
        "launch = launched()\n"
        "with abort_together(launch), joined_ranks(launch, device='cpu', timeout_s=30) as ranks:\n"
        "    ranks.barrier()\n"
        "    os.kill(os.getpid(), 9) if ranks.rank else ranks.total(1.0)"
    )
    variables = two_of_slurm(2)
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment() | variables | {"SLURM_PROCID": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    second.communicate(timeout=100)
    _, told = first.communicate(timeout=100)
    assert second.returncode == -9
    assert first.returncode == 1
    assert "advcomp: rank 0: lost touch with another rank, which was killed" in told
    assert "Traceback" not in told


@pytest.mark.mpi
@pytest.mark.slow
def test_an_mpiexec_of_another_mpi_is_told(require: Require) -> None:
    """Each of its ranks would else train alone, all into one folder."""
    require("mpi")
    program = (
        "import os; from advcomp.training.launch import launched; launched({'PMI_SIZE': '2'})"
    )
    done = launch([sys.executable, "-c", program], 100)
    assert done.returncode == 1
    assert "expected 2 ranks, as mpiexec says; mpi4py sees 1: it belongs to another" in done.stderr


@pytest.mark.parametrize(
    ("told", "rank"),
    [
        ({}, 0),
        ({"RANK": "3"}, 0),  # whoever's
        ({"RANK": "3", "WORLD_SIZE": "4"}, 3),
        ({"OMPI_COMM_WORLD_RANK": "2", "SLURM_PROCID": "0"}, 2),
        ({"PMI_RANK": "1"}, 1),
        ({"SLURM_PROCID": "5"}, 5),
        ({"PMI_RANK": ""}, 0),
    ],
)
def test_the_launcher_alone_tells_a_rank(told: dict[str, str], rank: int) -> None:
    assert rank_told(told) == rank


class _Ended(Exception):
    pass


def test_only_the_first_rank_speaks_at_once() -> None:
    let_the_first_speak(0)

    def end(*_signal: object) -> None:
        raise _Ended

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(_Ended):
            let_the_first_speak(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "none.toml"], "none.toml"),
        (["train", "wrong.toml"], "batch_size"),
        (["train", "wrong.toml", "--evaluate"], "takes no --evaluate"),
        (["train", "wrong.toml", "--no-such"], "No such option"),
        (["run", "wrong.toml", "--cluster", "mpi"], "network: unknown key"),
        (["run", "none.toml", "--cluster", "mpi"], "none.toml"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_one_rank(
    arguments: list[str], told: str, require: Require, tmp_path: Path, toy: Toy
) -> None:
    require("mpi")
    recipe = toy(("batch_size = 8", "batch_size = -8"))
    arguments = [each.replace("wrong.toml", str(recipe)) for each in arguments]
    done = launch([*mpiexec(3), "-m", "advcomp", *arguments])
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if told in line and "mpiexec" not in line]
    assert len(said) == 1, done.stderr


def test_srun_that_speaks_pmi_needs_no_mpi() -> None:
    told = {
        "PMI_SIZE": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_STEP_NODELIST": "a,b",
        "SLURM_JOB_ID": "7",
    }
    first, second = (launched({**told, "SLURM_STEP_ID": step}) for step in "01")
    assert (first.rank, first.size, first.host, first.mpi) == (1, 2, "a", None)
    assert first.port != second.port


def test_shares_cover_every_image_and_every_classifier_once() -> None:
    for size, model_ranks in [(1, 1), (4, 1), (4, 2), (4, 4), (6, 3)]:
        grid = [
            Ranks(
                rank=r,
                size=size,
                model_ranks=model_ranks,
                group_number=r // model_ranks,
                place=r % model_ranks,
            )
            for r in range(size)
        ]
        images = [i for ranks in grid for i in range(12)[ranks.share(12)]]
        assert images == list(range(12))
        for ranks in grid:
            own, group = (range(12)[rows] for rows in (ranks.share(12), ranks.group_rows(12)))
            assert set(own) <= set(group)
            assert len(group) == 12 * model_ranks // size
        for first in range(0, size, model_ranks):
            held = [c for r in grid[first : first + model_ranks] for c in r.own_classifiers(7)]
            assert sorted(held) == list(range(7))


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node1", "node1"),
        ("a,b", "a"),
        ("gpu[03-05,9],login", "gpu03"),
        ("gpu[7,9]-ib", "gpu7-ib"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_slurm_s_list_begins_with_the_host_of_rank_0(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_a_batch_script_of_slurm_is_one_process() -> None:
    """sbatch sets SLURM_PROCID and SLURM_NTASKS for its script, which srun has not started."""
    assert launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == Launch()
    assert launched({}) == Launch()


def test_ranks_that_make_no_grid_are_refused(toy: Toy) -> None:
    from advcomp.attacknet.train import train_attack_network
    from advcomp.training.progress import SilentObserver

    with pytest.raises(InvalidConfig) as caught:
        train_attack_network(
            toy(("batch_size = 8", "batch_size = 9")), SilentObserver(), model_ranks=5
        )
    assert len(caught.value.problems) == 2
    assert "divisor of the number of ranks, 1; got 5" in str(caught.value)


def test_mpiexec_of_the_package_is_the_one_that_runs() -> None:
    assert shutil.which("mpiexec", path=environment()["PATH"]) is not None
