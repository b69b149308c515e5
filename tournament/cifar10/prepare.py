"""What cifar10.toml plays with and nobody may hand on: `prepare.py [--source ROOT|FILE.npz]`.

Writes data/ beside this file: CIFAR-10's test images as the tournament's dataset; from training
images, what Admix mixes in and a universal perturbation fitted to the surrogates.
"""

from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file

from advcomp.errors import AdvcompError
from advcomp.players.attack.universal import fit_universal
from advcomp.players.datasets import LabelledImages, Part, labelled_images
from advcomp.players.ensemble import load_ensemble
from advcomp.players.image.pixels import to_float
from advcomp.rules.dataset import write_dataset
from advcomp.rules.threat import eps_of

HERE = Path(__file__).parent
SURROGATES = HERE / "attack_network" / "two_gradients"
MAX_EPSILON = 8
POOL_PER_CLASS = 10
UNIVERSAL_IMAGES = 2000


@click.command()
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="ROOT|FILE.npz",
    help="Where CIFAR-10 is [default: in the cache].",
)
@click.option("--download", is_flag=True, help="Fetch what the root folder lacks.")
def main(source: Path | None, *, download: bool) -> None:
    """Write the tournament's images, what Admix mixes in, and a universal perturbation."""
    data = HERE / "data"
    try:
        images = labelled_images("cifar10", Part.TOURNAMENT, source, download=download)
        training = labelled_images("cifar10", Part.TRAINING, source)
        print(f"{data}: {len(write_dataset(data, images.with_targets(seed=0)))} images")
    except AdvcompError as error:
        raise click.ClickException(str(error)) from None
    write_pool(training, data / "admix.safetensors")
    write_universal(training, data / "universal.safetensors")


def write_pool(images: LabelledImages, path: Path) -> None:
    """The first images of each class."""
    firsts = [np.flatnonzero(images.labels == c)[:POOL_PER_CLASS] for c in range(images.classes)]
    chosen = np.concatenate(firsts)
    pool = torch.from_numpy(images.levels[chosen]).permute(0, 3, 1, 2).contiguous()
    save_file({"pool": pool, "pool_labels": torch.from_numpy(images.labels[chosen])}, path)


def write_universal(images: LabelledImages, path: Path) -> None:
    """Fitted on the first images, to the surrogates' answers."""
    surrogates = load_ensemble(SURROGATES, {"gradient_surrogate_*": 1.0})
    x = to_float(images.levels[:UNIVERSAL_IMAGES])
    labels = torch.from_numpy(images.labels[:UNIVERSAL_IMAGES])
    perturbations = fit_universal(surrogates, x, labels, eps=eps_of(MAX_EPSILON))
    save_file({"perturbations": perturbations}, path)


if __name__ == "__main__":
    main()
