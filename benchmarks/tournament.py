"""What a tournament costs beyond its mathematics: in one process, in boxes, as in 2017.

    python benchmarks/tournament.py [--images 1000] [--few 100] [--ways a|b|c]... [--engine podman]

Six attacks and six defenses of the library at budget 8, on drawn images of 32x32, in three ways:
(a) one process calls the same functions on arrays; (b) `advcomp run --jobs 1` under bubblewrap,
view `latin`; (c) as the kit of 2017 did it, a container for every attack, defense and batch of
100, one after another (image `advcomp/runtime`). Each is timed with `--images` and with `--few`:
of what the difference costs, start-ups are no part. One thread everywhere.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch

from advcomp.players.attack_catalogue import load_attack
from advcomp.players.defense_catalogue import load_defense
from advcomp.players.image.pixels import quantise, to_float
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.images import Pixels, encode_png
from advcomp.rules.threat import eps_of

ROOT = Path(__file__).resolve().parents[1]
CIFAR10 = ROOT / "tournament" / "cifar10"
SIDE, EPSILON, BATCH = 32, 8, 100
ATTACKS = ("fgsm", "i_fgsm", "pgd", "mi_fgsm", "ni_fgsm", "di_fgsm")
SURROGATE = "vgg_net_a"
DEFENSES = tuple(
    (defense, network)
    for defense in ("bit_depth", "jpeg", "median_filter")
    for network in ("res_net_b", "vgg_net_b")
)


def entries(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Write the entries as folders: attacks, defenses."""
    attacks = [
        _entry(
            folder / name,
            ROOT / "attacks" / "library",
            {"attack.toml": f"attacks/{name}.toml"},
            {"surrogate.safetensors": SURROGATE},
        )
        for name in ATTACKS
    ]
    defenses = [
        _entry(
            folder / f"{name}_{network}",
            ROOT / "defenses" / "library",
            {"defense.toml": f"defenses/{name}.toml"},
            {"classifier.safetensors": network},
        )
        for name, network in DEFENSES
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


def in_one_process(made: Mapping[str, Sequence[Path]], images: Pixels) -> float:
    """(a): seconds, models loaded."""
    attacks = [load_attack(folder) for folder in made["attacks"]]
    defenses = [load_defense(folder) for folder in made["defenses"]]
    began = time.monotonic()
    batches = [to_float(images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
    columns = [batches]
    for attack in attacks:
        eps = eps_of(EPSILON)
        columns.append([to_float(quantise(attack.untargeted(each, eps))) for each in batches])
    with torch.no_grad():
        for defense in defenses:
            for column in columns:
                for each in column:
                    defense.labels(each)
    return time.monotonic() - began


def in_boxes(made: Mapping[str, Sequence[Path]], images: Pixels, folder: Path) -> float:
    """(b): seconds of the whole command."""
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
    return _seconds([sys.executable, "-m", "advcomp", "run", str(file), *options])


def in_containers(
    made: Mapping[str, Sequence[Path]], images: Pixels, folder: Path, engine: str
) -> float:
    """(c): seconds of all containers."""
    columns = {"clean": _batches(folder / "clean", images)}
    total = 0.0
    for attack in made["attacks"]:
        outputs = [folder / attack.name / batch.name for batch in columns["clean"]]
        for batch, output in zip(columns["clean"], outputs, strict=True):
            output.mkdir(parents=True)
            total += _container(engine, attack, "run_attack.sh", batch, output, "/out", "8")
        columns[attack.name] = outputs
    for defense in made["defenses"]:
        for name, batches in columns.items():
            for batch in batches:
                output = folder / defense.name / name / batch.name
                output.mkdir(parents=True)
                total += _container(
                    engine, defense, "run_defense.sh", batch, output, "/out/result.csv"
                )
    return total


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
    engine: str, entry: Path, program: str, inputs: Path, output: Path, *arguments: str
) -> float:
    mounts = (f"{entry}:/code:ro", f"{inputs}:/in:ro", f"{output}:/out")
    # Podman's own defaults are more than root may have where the machine's limits are lower.
    options = (
        *("--rm", "--network=none", "--cpus=1", "--env=OMP_NUM_THREADS=1", "--workdir=/code"),
        *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
    )
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    return _seconds(
        [engine, "run", *options, *volumes, "advcomp/runtime", f"./{program}", "/in", *arguments]
    )


def _seconds(command: Sequence[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return time.monotonic() - began


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def timed(way: str, made: Mapping[str, Sequence[Path]], images: Pixels, engine: str) -> float:
    """Seconds that one way takes."""
    with scratch() as folder:
        match way:
            case "a":
                return in_one_process(made, images)
            case "b":
                return in_boxes(made, images, folder)
            case _:
                return in_containers(made, images, folder, engine)


@click.command(help=__doc__.splitlines()[0])
@click.option("--images", "many", default=1_000, show_default=True)
@click.option("--few", default=100, show_default=True)
@click.option(
    "--ways",
    type=click.Choice(["a", "b", "c"]),
    multiple=True,
    default=["a", "b", "c"],
    show_default=True,
)
@click.option(
    "--engine", type=click.Choice(["docker", "podman"]), default="podman", show_default=True
)
def main(many: int, few: int, ways: Sequence[str], engine: str) -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (many, SIDE, SIDE, 3), np.uint8)
    more: dict[str, float] = {}
    whole: dict[str, float] = {}
    with scratch() as folder:
        made = entries(folder)
        for way in ways:
            part = timed(way, made, images[:few], engine)
            whole[way] = timed(way, made, images, engine)
            more[way] = whole[way] - part
            print(f"({way}) {whole[way]:.1f} s; {part:.1f} s with {few} images", flush=True)
    if {"a", "b"} <= whole.keys():
        print(f"b/a beyond start-ups: {more['b'] / more['a']:.2f} (goal 1.15)")
    if {"b", "c"} <= whole.keys():
        print(f"c/b: {whole['c'] / whole['b']:.1f} (goal 10)")


if __name__ == "__main__":
    main()
