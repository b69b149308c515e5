"""Writes public images as a tournament's dataset: `python -m advcomp.players.dataset_command`.

    digits DIR                            scikit-learn's handwritten digits
    cifar10 DIR [--source ROOT|FILE.npz] [--download]
                                          CIFAR-10, from torchvision's copy or packed JPEGs

DIR gets images/*.png and images.csv. The referee starts this in a process of its own, since it
needs what the referee has not; `advcomp dataset` is what people type.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from advcomp.errors import AdvcompError
from advcomp.players.datasets import LabelledImages, Part, labelled_images
from advcomp.rules.dataset import write_dataset

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_SEED = click.option("--seed", type=int, default=0, help="Draws the target classes.")
_PART = click.option(
    "--part",
    # As text: of an enumeration click takes the members' names.
    type=click.Choice([part.value for part in Part]),
    default=Part.TOURNAMENT.value,
)


@click.group()
def main() -> None:
    """Write a dataset to DIR; exits 1 with all problems, 2 on wrong usage."""


@main.command("digits")
@_FOLDER
@_SEED
@_PART
def write_digits(folder: Path, seed: int, part: str) -> None:
    """Scikit-learn's handwritten digits."""
    _write(partial(labelled_images, "digits", Part(part)), folder, seed)


@main.command("cifar10")
@_FOLDER
@click.option("--source", type=click.Path(path_type=Path), help="Where CIFAR-10 is.")
@click.option("--download", is_flag=True, help="Fetch what the root folder lacks.")
@_SEED
@_PART
def write_cifar10(folder: Path, source: Path | None, download: bool, seed: int, part: str) -> None:
    """CIFAR-10."""
    images = partial(labelled_images, "cifar10", Part(part), source, download=download)
    _write(images, folder, seed)


def _write(images: Callable[[], LabelledImages], folder: Path, seed: int) -> None:
    try:
        dataset = write_dataset(folder, images().with_targets(seed))
    except AdvcompError as error:
        click.echo(error, err=True)
        sys.exit(error.exit_code)
    click.echo(f"{folder}: {len(dataset)} images")


if __name__ == "__main__":
    main()
