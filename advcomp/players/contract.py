"""The contract of a submission, seen from inside: argv, input PNGs, output PNGs or result.csv.

A submission's program hands a function to `attack_main`, `targeted_attack_main` or `defense_main`;
the function sees float images and nothing of files. Images go through it in the order of their
names, in batches that always have the same size (the last one is filled up with its own last
image), so that an image's result does not depend on how many others a run has. The size follows
what the function needs for an image and what the box has (`batches`), unless it is given; a batch
that finds no memory all the same is halved, and so are those after it. What a batch gave is on
disk before the next one starts: a run that is killed keeps it.
"""

import csv
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from advcomp.errors import InvalidDataset
from advcomp.players.batches import MOST, batch_size_for, is_out_of_memory
from advcomp.players.image.pixels import quantise, to_float
from advcomp.rules.images import Pixels, decode_png, encode_png
from advcomp.rules.png import read_size
from advcomp.rules.threat import eps_of
from advcomp.training.heap import keep_freed_memory

Attack = Callable[[Tensor, float], Tensor]
"""Clean images (N, 3, H, W) in [0, 1] and eps to adversarial images."""

TargetedAttack = Callable[[Tensor, Tensor, float], Tensor]
"""Clean images, the label (N,) to lead each to, and eps to adversarial images."""

Defense = Callable[[Tensor], Tensor]
"""Images to labels (N,)."""

T = TypeVar("T")

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
    attack: Attack, argv: Sequence[str] | None = None, *, batch_size: int | None = None
) -> None:
    """Run `./ENTRY /input_images /output_images MAX_EPSILON`.

    Args:
        attack: The attack.
        argv: As a program gets them.
        batch_size: Images at once; measured where not given.
    """
    inputs, output, eps = _attack_arguments(argv)
    for batch, adversarial in _in_batches(
        inputs, lambda batch: attack(batch.images, eps), batch_size
    ):
        write_images(output, batch, adversarial)


def targeted_attack_main(
    attack: TargetedAttack, argv: Sequence[str] | None = None, *, batch_size: int | None = None
) -> None:
    """Run `./ENTRY /input_images /output_images MAX_EPSILON`, with targets beside the images.

    Args:
        attack, argv, batch_size: As in `attack_main`.

    Raises:
        InvalidDataset: An image has no target.
    """
    inputs, output, eps = _attack_arguments(argv)
    target_of = read_targets(inputs)

    def attacked(batch: Batch) -> Tensor:
        targets = torch.tensor([target_of[name] for name in batch.names])
        return attack(batch.images, targets, eps)

    for batch, adversarial in _in_batches(inputs, attacked, batch_size):
        write_images(output, batch, adversarial)


def defense_main(
    defense: Defense, argv: Sequence[str] | None = None, *, batch_size: int | None = None
) -> None:
    """Run `./ENTRY /input_images /output_data/result.csv`.

    Args:
        defense, argv, batch_size: As in `attack_main`.
    """
    inputs, result = _arguments(argv, "INPUT_IMAGES RESULT_CSV")
    with Path(result).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for batch, labels in _in_batches(
            Path(inputs), lambda batch: defense(batch.images), batch_size
        ):
            answers = _whole_numbers(labels, len(batch.names))[: batch.count]
            rows.writerows(zip(batch.names[: batch.count], answers, strict=True))
            file.flush()


def _whole_numbers(labels: object, images: int) -> list[int]:
    """The labels of a batch.

    Raises:
        ValueError: A defense gave something else.
    """
    given = torch.as_tensor(labels)
    if given.shape != (images,) or given.is_floating_point() or given.dtype is torch.bool:
        raise ValueError(
            f"defense: expected labels, integers ({images},), for {images} images; got "
            f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}; of logits take "
            ".argmax(1)"
        )
    found: list[int] = given.tolist()
    return found


def _in_batches(
    folder: Path, function: Callable[[Batch], T], batch_size: int | None
) -> Iterator[tuple[Batch, T]]:
    """The batches of a folder, and what a function makes of each."""
    paths = _image_paths(folder)
    size = batch_size or _measured_size(paths, function)
    at = 0
    while at < len(paths):
        batch = _read_batch(paths[at : at + size], size)
        try:
            made = function(batch)
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            print(f"no memory for {size} images at once: trying {size // 2}", file=sys.stderr)
            size //= 2
            continue
        yield batch, made
        at += batch.count


def _measured_size(paths: Sequence[Path], function: Callable[[Batch], object]) -> int:
    if not paths:
        return MOST
    first = _read_batch(paths[:1], 1)
    return batch_size_for(lambda images: function(replace(first, images=images)), first.images)


def _read_batch(paths: Sequence[Path], size: int) -> Batch:
    """One to `size` PNGs, filled up to `size`."""
    images = to_float(np.stack([_read_png(path) for path in paths]))
    names = [path.name for path in paths]
    missing = size - len(paths)
    return Batch(
        names=(*names, *names[-1:] * missing),
        images=torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]),
        count=len(paths),
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
    """Write images (N, 3, H, W), rounded, under the names of a batch.

    Raises:
        ValueError: They are on another scale than [0, 1], or NaN.
    """
    # Who adds a budget and leaves clipping to us is within these.
    low, high = map(float, images.detach().aminmax())
    if not (images.is_floating_point() and low >= -1 and high <= 2):
        raise ValueError(
            f"attack: expected images, floats in [0, 1]; got "
            f"{str(images.dtype).removeprefix('torch.')} of {low:g} to {high:g}; of levels: "
            "levels.float() / 255"
        )
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
    given = argv
    if given is None:
        given = sys.argv[1:]
        # This process is the entry's own. What it has loaded by now, it keeps: to look through all
        # of it for garbage, at its end most of all, takes as long as many images do.
        gc.freeze()
        keep_freed_memory()
    if len(given) != len(usage.split()):
        sys.exit(f"usage: {Path(sys.argv[0]).name} {usage}; got {len(given)} arguments")
    return given
