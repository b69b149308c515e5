"""How training scales over ranks: `python benchmarks/training.py RECIPE [--ranks N]...`.

Every grid of every number of ranks takes the recipe's first steps under a real mpiexec; the batch
grows with the ranks (weak scaling), so that each rank's work stays the same where no classifier is
split. One rank alone is always measured, first. Printed for each grid: images per second, the most
memory of any rank, the efficiency (its images per second and rank, over those of one rank), and
the FLOP/s with their share of the peak of as many devices: --peak, or what one rank reaches with a
large multiplication of matrices in the recipe's precision. Ranks on one processor share its cores,
so there the share of several ranks says little.

Then what 8 and 128 GPUs would give, by this model of a step, t = c + g(r):

    c  time of one rank alone for its share of the batch, measured
    g  2 (r - 1) / r x bytes of the gradients / bandwidth, a ring all-reduce over r ranks, and not
       hidden behind c; the gathered images are small beside the gradients and left out

The bandwidth is an assumption that is printed with the result (--bandwidth, in GB/s).
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch.utils.flop_counter import FlopCounterMode

from advcomp.attacknet.data import AttackBatch, load_images
from advcomp.attacknet.recipe import AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.task import AttackNetworkTask, attack_network_task
from advcomp.training.launch import launched
from advcomp.training.loop import TrainingRun
from advcomp.training.ranks import Ranks, abort_together, joined_ranks
from advcomp.training.settings import Precision

WARM_UP = 2
PROJECTED = (8, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every grid takes: the first steps of a recipe."""

    recipe: Path
    steps: int
    images_per_rank: int


@click.command(help=__doc__.splitlines()[0])
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--ranks", type=int, multiple=True, default=[1, 2, 4], show_default=True)
@click.option("--steps", default=10, show_default=True)
@click.option("--images-per-rank", default=8, show_default=True)
@click.option("--bandwidth", default=25.0, show_default=True, help="GB/s between GPUs.")
@click.option("--peak", type=float, help="TFLOP/s that a device can do.")
@click.option("--grid", type=(int, click.Path(path_type=Path)), hidden=True)
def main(
    recipe: Path,
    ranks: Sequence[int],
    steps: int,
    images_per_rank: int,
    bandwidth: float,
    peak: float | None,
    grid: tuple[int, Path] | None,
) -> None:
    work = Work(recipe=recipe, steps=steps, images_per_rank=images_per_rank)
    if grid:
        measure(work, *grid)
    else:
        project(compare(work, ranks, peak), bandwidth)


def measure(work: Work, model_ranks: int, out: Path) -> None:
    """On one rank of a grid: take steps, and let the first rank write what they took."""
    launch = launched()
    with abort_together(launch):
        recipe = enlarged(load_network_recipe(work.recipe), work.images_per_rank * launch.size)
        training, _ = load_images(recipe.data)
        device = recipe.device.name
        with joined_ranks(launch, model_ranks=model_ranks, device=device) as ranks:
            task = attack_network_task(recipe, ranks, training)
            run = TrainingRun(task, recipe.plan, ranks)
            row = found(task, run, timed(run, work.steps))
            if ranks.is_first:
                out.write_text(json.dumps(row), encoding="utf-8")


def enlarged(recipe: AttackNetworkRecipe, batch_size: int) -> AttackNetworkRecipe:
    training = recipe.training.model_copy(update={"batch_size": batch_size})
    return recipe.model_copy(update={"training": training})


def timed(run: TrainingRun[AttackBatch], steps: int) -> float:
    """Seconds that a step takes, all ranks together."""
    for _ in range(WARM_UP):
        run.step()
    synchronise(run.ranks)
    start = time.perf_counter()
    for _ in range(steps):
        run.step()
    run.read()
    synchronise(run.ranks)
    return (time.perf_counter() - start) / steps


def synchronise(ranks: Ranks) -> None:
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()
    ranks.barrier()


def found(
    task: AttackNetworkTask, run: TrainingRun[AttackBatch], seconds: float
) -> dict[str, float]:
    gpu = run.ranks.device.type == "cuda"
    memory = (
        torch.cuda.max_memory_allocated()
        if gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {
        "seconds": seconds,
        "batch": run.plan.batch_size,
        "memory_bytes": max(run.ranks.each(memory)),
        "gradient_bytes": sum(p.numel() * p.element_size() for p in task.module.parameters()),
        "flops_an_image": flops_of_a_step(task, run) / run.plan.batch_size,
        "peak": peak(task) if run.ranks.size == 1 else 0.0,
    }


def flops_of_a_step(task: AttackNetworkTask, run: TrainingRun[AttackBatch]) -> float:
    """Forward and backward, over all ranks, recomputation included.

    The counter sees nothing of a compiled network, so the step takes the one it was made of.
    """
    task.generator.network = task.module
    with FlopCounterMode(display=False) as counter:
        run.step()
    return run.ranks.total(counter.get_total_flops())[0]


def peak(task: AttackNetworkTask, side: int = 2048, rounds: int = 5) -> float:
    """FLOP/s that a multiplication of matrices reaches on this device."""
    kinds = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
    precision = task.recipe.device.precision
    kind = kinds.get(precision, precision.kept)
    a = torch.rand(side, side, device=task.ranks.device, dtype=kind)
    _ = a @ a
    synchronise(task.ranks)
    start = time.perf_counter()
    for _ in range(rounds):
        _ = a @ a
    synchronise(task.ranks)
    return 2 * side**3 * rounds / (time.perf_counter() - start)


def compare(work: Work, ranks: Sequence[int], peak_tflops: float | None) -> dict[str, float]:
    """Measure and print every grid; returns what one rank alone took."""
    alone: dict[str, float] = {}
    targets = len(load_network_recipe(work.recipe).targets)
    print("ranks  data x model  images/s  memory of a rank  efficiency  FLOP/s (share of peak)")
    for size in sorted({1, *ranks}):
        splits = [m for m in range(1, size + 1) if size % m == 0 and m <= targets]
        for model_ranks in splits:
            row = launched_grid(work, size, model_ranks)
            alone = alone or row
            rate = row["batch"] / row["seconds"]
            efficiency = rate / size / (alone["batch"] / alone["seconds"])
            speed = rate * row["flops_an_image"]
            most = peak_tflops * 1e12 if peak_tflops else alone["peak"]
            print(
                f"{size:5}  {size // model_ranks:4} x {model_ranks:<5}  {rate:8.1f}  "
                f"{row['memory_bytes'] / 1e6:13.0f} MB  {efficiency:10.0%}"
                f"  {speed / 1e9:.3g} G ({speed / size / most:.1%})",
                flush=True,
            )
    return alone


def launched_grid(work: Work, size: int, model_ranks: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        mpiexec = str(Path(sys.executable).with_name("mpiexec"))
        command = [mpiexec, "--allow-run-as-root", "--oversubscribe", "-n", str(size)]
        command += [sys.executable, __file__, str(work.recipe), "--steps", str(work.steps)]
        command += ["--images-per-rank", str(work.images_per_rank)]
        subprocess.run([*command, "--grid", str(model_ranks), str(out)], check=True)
        row: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
        return row


def project(alone: dict[str, float], bandwidth: float) -> None:
    print(f"projected by c + g(r), at {bandwidth:g} GB/s between ranks:")
    for size in PROJECTED:
        reduce = 2 * (size - 1) / size * alone["gradient_bytes"] / (bandwidth * 1e9)
        rate = size * alone["batch"] / (alone["seconds"] + reduce)
        efficiency = alone["seconds"] / (alone["seconds"] + reduce)
        print(f"  {size} ranks: {rate:,.0f} images/s, efficiency {efficiency:.1%}")


if __name__ == "__main__":
    main()
