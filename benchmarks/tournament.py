"""What a tournament costs beyond its mathematics: in one process, in boxes, as in 2017.

    python benchmarks/tournament.py [--images N]... [--way a|b|c]... [--rounds N] [--entries N]
        [--batches N] [--engine podman] [--image advcomp/runtime]

Six attacks and six defenses of the library at budget 8, on drawn images of 32x32, in three ways:
(a) one process calls the same functions on arrays, as many images at once as programs take;
(b) `advcomp run --jobs 1` under bubblewrap, view `latin`; (c) as the kit of 2017 did it, a
container for every attack, defense and batch of 100, one after another. One thread everywhere.
All files are in the temporary folder: let TMPDIR be a tmpfs where `advcomp doctor` warns of the
disk, which is measured else.

(a) and (b) are timed with every number of images, in turn, round by round, and the cheapest round
counts: seconds of wall time, and of processors by all processes (unknown of Docker's, which are
the daemon's). A line through the numbers parts what an image costs from what does not grow: the
starts, whose number is told, and the referee's own. (c) starts as many again for every batch, and
batches cost the same: it is timed with the most images, and with `--batches` so many of its
batches are run, the rest taken to cost as much.
"""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch

from advcomp.players.attack_catalogue import load_attack
from advcomp.players.batches import MOST
from advcomp.players.defense_catalogue import load_defense
from advcomp.players.image.pixels import quantise, to_float
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.images import Pixels, encode_png
from advcomp.rules.threat import eps_of
from advcomp.training.heap import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
CIFAR10 = ROOT / "tournament" / "cifar10"
SIDE, EPSILON, BATCH = 32, 8, 100
ATTACKS = ("fgsm", "i_fgsm", "pgd", "mi_fgsm", "ni_fgsm", "di_fgsm")
SURROGATE = "vgg_net_a"
DEFENSES = tuple(
    (defense, network)
    for network in ("res_net_b", "vgg_net_b")
    for defense in ("bit_depth", "jpeg", "median_filter")
)
GOAL_A, GOAL_C = 1.15, 10
PR_SET_CHILD_SUBREAPER = 36
ORPHANS_S = 5.0

Entries = Mapping[str, Sequence[Path]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one way took, and how many programs it started."""

    wall_s: float
    cpu_s: float
    starts: int

    def times(self, factor: float) -> "Cost":
        starts = round(factor * self.starts)
        return Cost(wall_s=factor * self.wall_s, cpu_s=factor * self.cpu_s, starts=starts)


def entries(folder: Path, count: int) -> Entries:
    """Write the entries as folders: so many attacks, so many defenses."""
    attacks = [
        _entry(
            folder / name,
            ROOT / "attacks" / "library",
            {"attack.toml": f"attacks/{name}.toml"},
            {"surrogate.safetensors": SURROGATE},
        )
        for name in ATTACKS[:count]
    ]
    defenses = [
        _entry(
            folder / f"{name}_{network}",
            ROOT / "defenses" / "library",
            {"defense.toml": f"defenses/{name}.toml"},
            {"classifier.safetensors": network},
        )
        for name, network in DEFENSES[:count]
    ]
    return {"attacks": attacks, "defenses": defenses}


def _entry(
    folder: Path, sample: Path, settings: Mapping[str, str], weights: Mapping[str, str]
) -> Path:
    shutil.copytree(sample, folder)
    for name, source in settings.items():
        shutil.copy(CIFAR10 / source, folder / name)
    for name, network in weights.items():
        shutil.copy(CIFAR10 / "weights" / f"{network}.safetensors", folder / name)
    return folder


def in_one_process(made: Entries, images: Pixels) -> Cost:
    """(a), models loaded."""
    attacks = [load_attack(folder) for folder in made["attacks"]]
    defenses = [load_defense(folder) for folder in made["defenses"]]
    began, cpu_began = time.monotonic(), time.process_time()
    batches = [to_float(images[at : at + MOST]) for at in range(0, len(images), MOST)]
    columns = [batches]
    for attack in attacks:
        eps = eps_of(EPSILON)
        columns.append([to_float(quantise(attack.untargeted(each, eps))) for each in batches])
    with torch.no_grad():
        for defense in defenses:
            for column in columns:
                for each in column:
                    defense.labels(each)
    return Cost(wall_s=time.monotonic() - began, cpu_s=time.process_time() - cpu_began, starts=0)


def in_boxes(made: Entries, images: Pixels, folder: Path) -> Cost:
    """(b), the whole command."""
    write_dataset(
        folder / "data",
        (
            LabelledImage(image_id=f"img-{k:05d}", image=image, label=k % 10, target_class=None)
            for k, image in enumerate(images)
        ),
    )
    file = folder / "speed.toml"
    listed = "\n".join(f"{kind} = {[str(path) for path in made[kind]]}" for kind in made)
    file.write_text(
        f'name = "speed"\n[dataset]\nsource = "folder"\nimages_dir = "data/images"\n'
        f'csv = "data/images.csv"\n[threat]\nmax_epsilons = [{EPSILON}]\n[entries]\n{listed}\n'
        "[limits]\ncpus = 1\nseconds_per_100_images = 600\n"
    )
    options = ("--out", str(folder / "run"), "--jobs", "1")
    command = [sys.executable, "-m", "advcomp", "run", str(file), *options]
    return replace(_cost(command), starts=len([*(folder / "run" / "jobs").iterdir()]))


def in_containers(
    made: Entries, images: Pixels, folder: Path, batches: int | None, start: Sequence[str]
) -> Cost:
    """(c), all containers; `start` is how one is started, up to its mounts."""
    clean = _batches(folder / "clean", images)
    run = clean[:batches]
    columns = {"clean": run}
    costs = []
    for attack in made["attacks"]:
        outputs = [folder / attack.name / batch.name for batch in run]
        for batch, output in zip(run, outputs, strict=True):
            output.mkdir(parents=True)
            costs.append(
                _container(start, attack, "run_attack.sh", batch, output, "/out", str(EPSILON))
            )
        columns[attack.name] = outputs
    for defense in made["defenses"]:
        for name, column in columns.items():
            for batch in column:
                output = folder / defense.name / name / batch.name
                output.mkdir(parents=True)
                costs.append(
                    _container(start, defense, "run_defense.sh", batch, output, "/out/result.csv")
                )
    run_once = Cost(
        wall_s=sum(cost.wall_s for cost in costs),
        cpu_s=sum(cost.cpu_s for cost in costs),
        starts=len(costs),
    )
    return run_once.times(len(clean) / len(run))


def _batches(folder: Path, images: Pixels) -> list[Path]:
    folders = []
    for at in range(0, len(images), BATCH):
        path = folder / f"{at // BATCH:03d}"
        path.mkdir(parents=True)
        for number, image in enumerate(images[at : at + BATCH]):
            (path / f"{number:03d}.png").write_bytes(encode_png(image))
        folders.append(path)
    return folders


def _container(
    start: Sequence[str], entry: Path, program: str, inputs: Path, output: Path, *arguments: str
) -> Cost:
    engine, image = start
    mounts = (f"{entry}:/code:ro", f"{inputs}:/in:ro", f"{output}:/out")
    # Podman's own defaults are more than root may have where the machine's limits are lower.
    options = (
        *("--rm", "--network=none", "--cpus=1", "--env=OMP_NUM_THREADS=1", "--workdir=/code"),
        *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
    )
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    return _cost([engine, "run", *options, *volumes, image, f"./{program}", "/in", *arguments])


def _cost(command: Sequence[str]) -> Cost:
    """One start: what it took, and all that it started."""
    began, cpu_began = time.monotonic(), _cpu_of_children()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    wall_s = time.monotonic() - began
    _await_orphans()
    return Cost(wall_s=wall_s, cpu_s=_cpu_of_children() - cpu_began, starts=1)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _await_orphans() -> None:
    """Wait for what a command leaves behind: Podman's containers are no children of its own.

    Not for ever: without root something of Podman's stays.
    """
    give_up = time.monotonic() + ORPHANS_S
    with suppress(ChildProcessError):
        while time.monotonic() < give_up:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                time.sleep(0.05)


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def line(points: Mapping[int, float]) -> tuple[float, float]:
    """Seconds an image, and those that do not grow with images: least squares."""
    slope, rest = np.polyfit([*points], [*points.values()], 1)
    return float(slope), float(rest)


def timed(
    way: str, made: Entries, images: Pixels, batches: int | None, start: Sequence[str]
) -> Cost:
    """What one way takes, which is told as well."""
    with scratch() as folder:
        match way:
            case "a":
                cost = in_one_process(made, images)
            case "b":
                cost = in_boxes(made, images, folder)
            case _:
                cost = in_containers(made, images, folder, batches, start)
    print(
        f"({way}) {len(images)} images: {cost.wall_s:.1f} s, {cost.cpu_s:.1f} s of processors, "
        f"{cost.starts} starts",
        flush=True,
    )
    return cost


def cheapest(rounds: Sequence[Cost]) -> Cost:
    return Cost(
        wall_s=min(cost.wall_s for cost in rounds),
        cpu_s=min(cost.cpu_s for cost in rounds),
        starts=rounds[0].starts,
    )


def report(found: Mapping[str, Mapping[int, Cost]]) -> None:
    """Print the lines, and what they say of the goals."""
    slopes = {}
    for way in [way for way in ("a", "b") if len(found.get(way, {})) > 1]:
        costs = found[way]
        slopes[way], rest = line({images: cost.cpu_s for images, cost in costs.items()})
        starts = max(cost.starts for cost in costs.values())
        each = f", {rest / starts:.2f} s for each of {starts} starts" if starts else ""
        print(f"({way}) {1000 * slopes[way]:.1f} ms of processors an image, {rest:.1f} s{each}")
    if {"a", "b"} <= slopes.keys():
        print(f"b/a beyond start-ups: {slopes['b'] / slopes['a']:.2f} (goal {GOAL_A})")
    if {"b", "c"} <= found.keys():
        most = max(found["b"])
        b, c = found["b"][most], found["c"][most]
        print(
            f"c/b with {most} images: {c.wall_s / b.wall_s:.1f} (goal {GOAL_C}), "
            f"{c.cpu_s / b.cpu_s:.1f} in seconds of processors"
        )


@click.command(help=__doc__.splitlines()[0])
@click.option("--images", multiple=True, default=[100, 1_000], show_default=True)
@click.option(
    "--way",
    "ways",
    type=click.Choice(["a", "b", "c"]),
    multiple=True,
    default=["a", "b", "c"],
    show_default=True,
)
@click.option("--rounds", default=1, show_default=True)
@click.option("--entries", "count", default=6, show_default=True, help="Attacks, and defenses.")
@click.option("--batches", type=int, help="Run so many of (c)'s batches.  [default: all]")
@click.option(
    "--engine", type=click.Choice(["docker", "podman"]), default="podman", show_default=True
)
@click.option("--image", default="advcomp/runtime", show_default=True)
def main(
    images: Sequence[int],
    ways: Sequence[str],
    rounds: int,
    count: int,
    batches: int | None,
    engine: str,
    image: str,
) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()  # as every program of the library does
    os.environ["OMP_NUM_THREADS"] = "1"
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    drawn = np.random.default_rng(0).integers(0, 256, (max(images), SIDE, SIDE, 3), np.uint8)
    taken: dict[str, dict[int, list[Cost]]] = {way: {} for way in ways}
    with scratch() as folder:
        made = entries(folder, count)
        for many in sorted({*images}) * rounds:
            for way in taken:
                if way != "c" or many == max(images):
                    cost = timed(way, made, drawn[:many], batches, (engine, image))
                    taken[way].setdefault(many, []).append(cost)
    report(
        {
            way: {many: cheapest(costs) for many, costs in of_way.items()}
            for way, of_way in taken.items()
        }
    )


if __name__ == "__main__":
    main()
