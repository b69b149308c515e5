"""Public images as arrays: scikit-learn's handwritten digits, and CIFAR-10.

The part for training is never the tournament's. `dataset_command` writes the same images.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcomp.errors import InvalidConfig, MissingExtra
from advcomp.rules.dataset import LabelledImage
from advcomp.rules.plain_file import open_plain_file, told

DIGITS_TRAINING = 1197
"""The first digits train; the 600 after them are the tournament's."""

_DIGITS = "data/digits.csv.gz"
_DIGIT_SIDE = 32
_DIGIT_MAX = 16


class Part(StrEnum):
    """Two parts of a dataset that share no image."""

    TOURNAMENT = "tournament"
    TRAINING = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """Images in memory.

    Args:
        image_ids: The ImageId of each.
        levels: uint8 (N, H, W, 3).
        labels: int64 (N,), 0..classes - 1.
        classes: How many classes there are.
    """

    image_ids: tuple[str, ...]
    levels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int

    def with_targets(self, seed: int) -> Iterator[LabelledImage]:
        """Every image with a target class, drawn evenly from the classes that it is not."""
        others = np.random.default_rng(seed).integers(1, self.classes, len(self.labels))
        targets = (self.labels + others) % self.classes
        rows = zip(self.image_ids, self.levels, self.labels, targets, strict=True)
        for image_id, image, label, target in rows:
            yield LabelledImage(
                image_id=image_id, image=image, label=int(label), target_class=int(target)
            )


def digits(part: Part) -> LabelledImages:
    """One part of scikit-learn's digits in their order, enlarged to 32x32.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise _missing("scikit-learn")
    # Its `load_digits` reads the same table, after two seconds of imports.
    table = np.loadtxt(Path(package.origin).with_name("datasets") / _DIGITS, delimiter=",")
    chosen = slice(DIGITS_TRAINING) if part is Part.TRAINING else slice(DIGITS_TRAINING, None)
    digits, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    return LabelledImages(
        image_ids=tuple(f"digits-{i:04d}" for i in range(len(labels))[chosen]),
        levels=np.stack([_enlarge(digit) for digit in digits[chosen]]),
        labels=labels[chosen],
        classes=10,
    )


def cifar10(part: Part, source: Path, *, download: bool = False) -> LabelledImages:
    """CIFAR-10 (Krizhevsky 2009): its test images are the tournament's, the others train.

    Args:
        part: Which images.
        source: torchvision's root folder, or an .npz of JPEGs: for `train` and `test` each
            `*_jpeg` (uint8, all files one after another), `*_offsets` (n + 1) and `*_labels` (n).
        download: Fetch what a root folder lacks.

    Raises:
        MissingExtra: torchvision is needed and not installed.
        InvalidConfig: `source` is not there, or not what it should be.
    """
    name = "train" if part is Part.TRAINING else "test"
    read = _packed_jpegs if source.suffix == ".npz" else _torchvision_cifar10
    levels, labels = read(source, name, download)
    return LabelledImages(
        image_ids=tuple(f"cifar10-{name}-{i:05d}" for i in range(len(labels))),
        levels=levels,
        labels=labels,
        classes=10,
    )


def labelled_images(
    name: str, part: Part, source: Path | None = None, *, download: bool = False
) -> LabelledImages:
    """One part of a dataset by its name.

    Args:
        name: "digits" or "cifar10".
        source: Where `cifar10` is; torchvision's root in the cache where not given.
        download: As `cifar10` has it.

    Raises:
        MissingExtra, InvalidConfig: As the two functions have them.
    """
    if name == "digits":
        return digits(part)
    return cifar10(part, source or _cache() / "torchvision", download=download)


def _enlarge(digit: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Levels (32, 32, 3) of a digit (8, 8) with values 0..16."""
    small = Image.fromarray(np.rint(digit * 255 / _DIGIT_MAX).astype(np.uint8))
    large = small.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(large)] * 3, axis=-1)


def _torchvision_cifar10(
    root: Path, name: str, download: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        from torchvision.datasets import CIFAR10
    except ImportError as error:
        raise _missing("torchvision") from error
    try:
        data = CIFAR10(root, train=name == "train", download=download)
    except RuntimeError as error:
        raise InvalidConfig(
            f"{root}: expected torchvision's copy of CIFAR-10; got none that is whole; "
            "name its root with --source, or fetch it with --download"
        ) from error
    return data.data, np.array(data.targets)


def _packed_jpegs(
    path: Path, name: str, download: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if download:
        raise InvalidConfig(f"{path}: --download needs a folder to fetch into; got an .npz file")
    try:
        # Opened here, since np.load leaves a damaged file open.
        with open_plain_file(path) as file, np.load(file) as packed:
            jpeg, offsets, labels = (
                packed[f"{name}_{key}"] for key in ("jpeg", "offsets", "labels")
            )
        jpegs = (jpeg[start:end].tobytes() for start, end in pairwise(offsets))
        images = [np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in jpegs]
        return np.stack(images), labels.astype(np.int64)
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise InvalidConfig(
            f"{path}: expected an .npz file of JPEGs, with the arrays {name}_jpeg, {name}_offsets "
            f"and {name}_labels; got {told(error)}"
        ) from error


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "advcomp"


def _missing(package: str) -> MissingExtra:
    return MissingExtra(
        f"{package} is not installed; install it with: pip install 'advcomp[players]'"
    )
