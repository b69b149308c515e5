"""Gradients by the pixel that are kept on the disk, so that an image's are found once.

One file for each rank, with a place for every image as training may show it. It begins as one long
hole: what was never written reads as zeros. A place is whole if the mean absolute value of each of
its gradients is 1, as `PixelGradients` makes them; others, also those that a crash has torn, are
found again. It is read and written, not mapped: a full disk is an error then, and no dead process.
"""

import math
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from advcomp.attacknet.data import AttackBatch
from advcomp.attacknet.network.model import COLOURS

_STORED = torch.float16
_ROUNDING = 0.01
"""By how much a mean of numbers that are stored in 16 bits may differ from 1."""


class KeptGradients:
    """Gradients of training images, from the disk or, for the first time, from classifiers.

    Args:
        path: The file; it and its folder are made at the first look.
        find: What finds those of a batch, (N, told, 3, H, W).
        told: How many an image has.
    """

    def __init__(self, path: Path, find: Callable[[AttackBatch], Tensor], told: int) -> None:
        self.path = path
        self.find = find
        self.told = told

    def __call__(self, batch: AttackBatch) -> Tensor:
        """Those of a batch on its device, (N, gradients, 3, H, W), rounded to 16 bits."""
        shape = (self.told, *batch.clean.shape[1:])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        with self.path.open("r+b", buffering=0) as file:
            found = torch.stack([_read(file, place, shape) for place in batch.places])
            whole = ((found.float().abs().mean((2, 3, 4)) - 1).abs() < _ROUNDING).all(1)
            missing = (~whole).nonzero().squeeze(1)
            if len(missing):
                own = batch.at(missing)
                found[missing] = self.find(own).to("cpu", _STORED)
                for row, place in zip(missing.tolist(), own.places, strict=True):
                    _write(file, place, found[row])
        return found.to(batch.clean, non_blocking=True)

    def size_of(self, size: tuple[int, int], places: int) -> int:
        """Bytes of the file with so many places, all of them written, for images of this size."""
        return places * self.told * COLOURS * math.prod(size) * _STORED.itemsize


def _read(file: FileIO, place: int, shape: tuple[int, ...]) -> Tensor:
    size = math.prod(shape) * _STORED.itemsize
    file.seek(place * size)
    content = bytearray(file.read(size).ljust(size, b"\0"))
    return torch.frombuffer(content, dtype=_STORED).view(shape)


def _write(file: FileIO, place: int, values: Tensor) -> None:
    content = values.contiguous().numpy().tobytes()
    file.seek(place * len(content))
    file.write(content)
