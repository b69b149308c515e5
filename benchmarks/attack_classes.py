"""How far attack networks get beside the library's attacks from the same surrogates.

    python benchmarks/attack_classes.py EXPORT... --surrogates WEIGHTS... --plain WEIGHTS...
        --robust WEIGHTS... --out FOLDER --attack FILE.toml... [--tensors FOLDER] [--apart]
        [--steps 50]... [--own WEIGHTS...] [--epsilon 8]... [--images 1000] [--first 0]
        [--source CIFAR-10]

EXPORT is a folder of `advcomp export`. FILE.toml is an `attack.toml`, played as an entry of the
library plays it, with the tensors that it needs from FILE.safetensors in --tensors; with --apart
once more as FILE_gradients, where each surrogate's gradient counts alike and labels are soft; with
--steps once more with so many, where it takes steps. --plain and --robust are classifiers that no
attack knows, --own what a network that asks for no gradient was trained on: FGSM asks it, too.

CIFAR-10's test images from the --first on are attacked, rounded to levels and classified. What
they became and which are misclassified is kept in --out, by epsilon and attack: another call adds
what is not there, and meets no classifier twice.

Printed, and written to misclassified.csv and gaps.csv in --out: how many are misclassified,
and by how many points each network is ahead, in the mean over plain ones, over robust ones, in the
mean of both, and in the worst case over all: the classifier that an attack has least of. Intervals
are of 95 %, paired by image: by the normal distribution, for the worst case of 2,000 bootstrap
samples.
"""

import csv
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advcomp.attacknet.network.generator import levels_moved, rounded_to_levels
from advcomp.attacknet.player import load_attack
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.attack_catalogue import (
    ATTACK_FILE,
    TENSORS,
    AttackSettings,
    LibraryAttack,
    settings_of,
)
from advcomp.players.attack_catalogue import load_attack as load_library_attack
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack
from advcomp.players.datasets import Part, labelled_images
from advcomp.players.ensemble import Ensemble, Fusion
from advcomp.players.image.pixels import to_float
from advcomp.rules.threat import eps_of
from advcomp.rules.toml_file import read_toml
from advcomp.training.heap import keep_freed_memory

BATCH = 50
SAMPLES = 2000
Hits = NDArray[np.bool_]
"""(classifiers, images): which are misclassified."""


@click.command(help=__doc__.splitlines()[0])
@click.argument("exports", nargs=-1, metavar="EXPORT...", type=click.Path(path_type=Path))
@click.option("--surrogates", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--own", multiple=True, type=click.Path(path_type=Path))
@click.option("--plain", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--robust", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--epsilon", "epsilons", multiple=True, type=int, default=(8,))
@click.option("--images", default=1000, show_default=True)
@click.option("--first", default=0, show_default=True)
@click.option("--source", type=click.Path(path_type=Path))
@click.option("--attack", "settings", multiple=True, type=click.Path(path_type=Path))
@click.option("--apart", is_flag=True)
@click.option("--steps", multiple=True, type=int)
@click.option("--tensors", default=Path(), type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(
    exports: Sequence[Path],
    surrogates: Sequence[Path],
    own: Sequence[Path],
    plain: Sequence[Path],
    robust: Sequence[Path],
    epsilons: Sequence[int],
    images: int,
    first: int,
    source: Path | None,
    settings: Sequence[Path],
    apart: bool,
    steps: Sequence[int],
    tensors: Path,
    out: Path,
) -> None:
    """Attack, classify, keep and compare."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every program of the library does
    data = labelled_images("cifar10", Part.TOURNAMENT, source)
    part = slice(first, first + images)
    x, labels = to_float(data.levels[part]), torch.from_numpy(data.labels[part])
    judges = {path.stem: frozen(path) for path in (*plain, *robust)}
    attacks: dict[str, Attack] = {"no change": lambda clean, _eps: clean}
    attacks |= {path.name: load_attack(path) for path in exports}
    library = dict(of_library(settings, surrogates, tensors, apart=apart))
    for name, one in library.items():
        attacks[name] = one.untargeted
        for number in steps if "steps" in settings_of(one.attack) else ():
            longer = partial(one.attack, steps=number)
            attacks[f"{name} {number}"] = replace(one, attack=longer).untargeted
    fgsm = [path for path in settings if read_toml(path, AttackSettings).attack == "fgsm"]
    for name, one in of_library(fgsm if own else (), own, tensors, apart=apart):
        attacks[f"{name}, own ensemble"] = one.untargeted
    out.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[int, str], Hits] = {}
    for level in epsilons:
        for name, attack in attacks.items():
            file = out / f"eps-{level:02} {name}.npz"
            found[level, name] = met(file, attack, x, labels, level, judges)
    is_robust = np.array([False] * len(plain) + [True] * len(robust))
    write(out / "misclassified.csv", counts(found, list(judges)))
    networks = [path.name for path in exports]
    rows = list(gaps(found, networks, is_robust))
    if exports:
        write(out / "gaps.csv", rows)
    for row in rows:
        print("  ".join(f"{cell:26}" if i == 2 else cell for i, cell in enumerate(row.values())))


def frozen(path: Path) -> nn.Module:
    """A classifier as the library loads its surrogates."""
    return load_classifier(path, fold=True, channels_last=True).eval().requires_grad_(False)


def of_library(
    settings: Sequence[Path], surrogates: Sequence[Path], tensors: Path, *, apart: bool
) -> Iterator[tuple[str, LibraryAttack]]:
    """Attacks from the same surrogates, by their files' names, loaded as entries load them."""
    for path in settings:
        with TemporaryDirectory() as folder:
            files = {ATTACK_FILE: path, TENSORS: tensors / f"{path.stem}.safetensors"}
            files |= {f"surrogate_{i}.safetensors": file for i, file in enumerate(surrogates)}
            for name, file in files.items():
                if file.exists():
                    Path(folder, name).symlink_to(file.resolve())
            one = load_library_attack(Path(folder))
        yield path.stem, one
        if apart:
            yield f"{path.stem}_gradients", told_apart(one)


def told_apart(one: LibraryAttack) -> LibraryAttack:
    """The same, with each surrogate's gradient of its own loss counting alike, and soft labels."""
    surrogates = Ensemble([*one.surrogates.members], fusion=Fusion.GRADIENTS)
    return replace(one, surrogates=surrogates, predictor=surrogates, labels=LabelKind.SOFT)


def met(
    file: Path,
    attack: Attack,
    x: Tensor,
    labels: Tensor,
    level: int,
    judges: Mapping[str, nn.Module],
) -> Hits:
    """Which images each classifier gets wrong; those that a file tells of are not asked again."""
    known: dict[str, Hits] = dict(np.load(file)) if file.exists() else {}
    if missing := {name: judge for name, judge in judges.items() if name not in known}:
        made = adversarial_images(file.with_suffix(".npy"), attack, x, level)
        known |= {name: wrong(judge, made, labels) for name, judge in missing.items()}
        np.savez_compressed(file, **known)  # type: ignore[arg-type]
    return np.stack([known[name] for name in judges])


def adversarial_images(file: Path, attack: Attack, x: Tensor, level: int) -> Tensor:
    """Those that a file holds, or new ones, which it holds from then on."""
    if not file.exists():
        began = time.process_time()
        made = torch.cat([attacked(attack, part, level) for part in parts(x)])
        spent = 1000 * (time.process_time() - began) / len(x)
        print(f"{file.stem}: {spent:.2f} CPU ms an image", flush=True)
        np.save(file, (255 * made).round().byte().permute(0, 2, 3, 1).numpy())
    return to_float(np.load(file))


def parts(x: Tensor) -> list[Tensor]:
    """Batches of images."""
    return [x[at : at + BATCH] for at in range(0, len(x), BATCH)]


def attacked(attack: Attack, clean: Tensor, level: int) -> Tensor:
    """Adversarial images, rounded; within the budget, or there is no figure."""
    made = rounded_to_levels(attack(clean, eps_of(level)).detach())
    assert bool((levels_moved(clean, made) <= level + 1e-3).all())
    return made


@torch.no_grad()
def wrong(judge: nn.Module, x: Tensor, labels: Tensor) -> Hits:
    """Which images a classifier misclassifies, (images,)."""
    answers = torch.cat([judge(part).argmax(1) for part in parts(x)])
    return (answers != labels).numpy()


def counts(
    found: Mapping[tuple[int, str], Hits], judges: Sequence[str]
) -> Iterator[dict[str, str]]:
    """One row for each epsilon and attack."""
    for (level, name), hits in found.items():
        sums = zip(judges, hits.sum(1), strict=True)
        yield {
            "epsilon": str(level),
            "attack": name,
            "images": str(hits.shape[1]),
            **{judge: str(number) for judge, number in sums},
        }


def gaps(
    found: Mapping[tuple[int, str], Hits], networks: Sequence[str], robust: Hits
) -> Iterator[dict[str, str]]:
    """By how many points each network is ahead of everything else, at each epsilon."""
    for (level, name), hits in found.items():
        for network in networks:
            ahead = found[level, network].astype(float) - hits
            plain, hard = ahead[~robust].mean(0), ahead[robust].mean(0)
            yield {
                "epsilon": str(level),
                "network": network,
                "attack": name,
                "plain %": f"{100 * hits[~robust].mean():.1f}",
                "robust %": f"{100 * hits[robust].mean():.1f}",
                "worst %": f"{100 * hits.mean(1).min():.1f}",
                "ahead, plain": interval(plain),
                "robust": interval(hard),
                "mean": interval((plain + hard) / 2),
                "worst case": of_the_worst(found[level, network], hits),
            }


def interval(differences: NDArray[np.float64]) -> str:
    """The mean of paired differences (images,) in points, with 95 %."""
    mean = float(differences.mean())
    half = 1.96 * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return shown(mean, mean - half, mean + half)


def of_the_worst(ours: Hits, theirs: Hits) -> str:
    """By how much the least that one attack has of any classifier is above the other's."""
    draws = np.random.default_rng(0)
    images = ours.shape[1]
    both = np.stack([ours, theirs]).astype(np.float32)
    weights = draws.multinomial(images, np.full(images, 1 / images), SAMPLES).T / images
    least = (both @ weights.astype(np.float32)).min(1)
    low, high = np.percentile(least[0] - least[1], [2.5, 97.5])
    worst = both.mean(2).min(1)
    return shown(float(worst[0] - worst[1]), float(low), float(high))


def shown(middle: float, low: float, high: float) -> str:
    """As points."""
    return f"{100 * middle:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def write(path: Path, rows: Iterator[dict[str, str]] | list[dict[str, str]]) -> None:
    """A table, with the first row's names."""
    found = list(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(found)


if __name__ == "__main__":
    main()
