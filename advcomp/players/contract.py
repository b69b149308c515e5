"""The contract of a submission, seen from inside: argv, input PNGs, output PNGs or result.csv.

A submission's program hands a function to `attack_main`, `targeted_attack_main` or `defense_main`;
the function sees float images and nothing of files. Images go through it in the order of their
names, in batches that always have the same size (the last one is filled up with its own last
image), so that an image's result does not depend on how many others a run has. What a batch gave
is on disk before the next one starts: a run that is killed keeps it.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advcomp.errors import InvalidDataset
from advcomp.players.image.pixels import quantise, to_float
from advcomp.rules.images import Pixels, decode_png, encode_png, read_size
from advcomp.rules.threat import eps_of

Attack = Callable[[Tensor, float], Tensor]
"""Clean images (N, 3, H, W) in [0, 1] and eps to adversarial images."""

TargetedAttack = Callable[[Tensor, Tensor, float], Tensor]
"""Clean images, the label (N,) to lead each to, and eps to adversarial images."""

Defense = Callable[[Tensor], Tensor]
"""Images to labels (N,)."""

BATCH_SIZE = 50
TARGETS_FILE = "target_class.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images of one size, filled up to the batch size.

    Args:
        names: File name of each; the last one repeated where the folder had no more.
        images: (N, 3, H, W) in [0, 1].
        count: How many of them are real; the rest fill up.
    """

    names: tuple[str, ...]
    images: Tensor
    count: int


def attack_main(
    attack: Attack, argv: Sequence[str] | None = None, *, batch_size: int = BATCH_SIZE
) -> None:
    """Run `./ENTRY /input_images /output_images MAX_EPSILON`."""
    inputs, output, eps = _attack_arguments(argv)
    for batch in read_batches(inputs, batch_size):
        write_images(output, batch, attack(batch.images, eps))


def targeted_attack_main(
    attack: TargetedAttack, argv: Sequence[str] | None = None, *, batch_size: int = BATCH_SIZE
) -> None:
    """Run `./ENTRY /input_images /output_images MAX_EPSILON`, with targets beside the images.

    Raises:
        InvalidDataset: An image has no target.
    """
    inputs, output, eps = _attack_arguments(argv)
    target_of = read_targets(inputs)
    for batch in read_batches(inputs, batch_size):
        targets = torch.tensor([target_of[name] for name in batch.names])
        write_images(output, batch, attack(batch.images, targets, eps))


def defense_main(
    defense: Defense, argv: Sequence[str] | None = None, *, batch_size: int = BATCH_SIZE
) -> None:
    """Run `./ENTRY /input_images /output_data/result.csv`."""
    inputs, result = _arguments(argv, "INPUT_IMAGES RESULT_CSV")
    with Path(result).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for batch in read_batches(Path(inputs), batch_size):
            labels = defense(batch.images)[: batch.count].tolist()
            rows.writerows(zip(batch.names[: batch.count], labels, strict=True))
            file.flush()


def read_batches(folder: Path, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """The PNGs of a folder, sorted by name, `batch_size` at a time."""
    paths = _image_paths(folder)
    for at in range(0, len(paths), batch_size):
        chosen = paths[at : at + batch_size]
        filled = chosen + chosen[-1:] * (batch_size - len(chosen))
        yield Batch(
            names=tuple(path.name for path in filled),
            images=to_float(np.stack([_read_png(path) for path in filled])),
            count=len(chosen),
        )


def read_targets(folder: Path) -> Mapping[str, int]:
    """The target label of every image in a folder, by file name.

    Raises:
        InvalidDataset: An image has none.
    """
    path = folder / TARGETS_FILE
    with path.open(encoding="utf-8", newline="") as file:
        targets = {name: int(label) for name, label in csv.reader(file)}
    if missing := [p.name for p in _image_paths(folder) if p.name not in targets]:
        raise InvalidDataset(
            *(f"{path}: expected a line for {name}; got none" for name in missing)
        )
    return targets


def write_images(folder: Path, batch: Batch, images: Tensor) -> None:
    """Write images (N, 3, H, W), rounded, under the names of a batch."""
    for name, levels in zip(batch.names[: batch.count], quantise(images), strict=False):
        (folder / name).write_bytes(encode_png(levels))


def _image_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def _read_png(path: Path) -> Pixels:
    data = path.read_bytes()
    return decode_png(data, *read_size(data))


def _attack_arguments(argv: Sequence[str] | None) -> tuple[Path, Path, float]:
    inputs, output, max_epsilon = _arguments(argv, "INPUT_IMAGES OUTPUT_IMAGES MAX_EPSILON")
    return Path(inputs), Path(output), eps_of(int(max_epsilon))


def _arguments(argv: Sequence[str] | None, usage: str) -> Sequence[str]:
    given = sys.argv[1:] if argv is None else argv
    if len(given) != len(usage.split()):
        sys.exit(f"usage: {Path(sys.argv[0]).name} {usage}; got {len(given)} arguments")
    return given
