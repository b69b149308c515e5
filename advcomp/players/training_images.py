"""Images to train on, from wherever a recipe says; sets larger than memory stay on the disk."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcomp.errors import InvalidConfig
from advcomp.players.datasets import Part, labelled_images
from advcomp.rules.dataset import IMAGES_CSV, IMAGES_FOLDER, Dataset, load_dataset

IMAGES_ARRAY, LABELS_ARRAY = "images.npy", "labels.npy"

_IN_MEMORY = 2**30
"""Bytes of pixels up to which a folder's images are read once and kept."""


class ImageSource(StrEnum):
    """Where training images come from; never a tournament's part of them."""

    DIGITS = "digits"
    CIFAR10 = "cifar10"
    FOLDER = "folder"
    ARRAYS = "arrays"


@dataclass(frozen=True, slots=True, eq=False)
class FolderLevels:
    """The pixels of a dataset's images, read from their files whenever they are asked for.

    Args:
        rows: Which of the dataset's images.
    """

    dataset: Dataset
    rows: range

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, 3)."""
        return len(self.rows), self.dataset.height, self.dataset.width, 3

    def __getitem__(self, rows: slice | list[int]) -> NDArray[np.uint8]:
        chosen = self.rows[rows] if isinstance(rows, slice) else [self.rows[i] for i in rows]
        if not len(chosen):
            return np.empty((0, *self.shape[1:]), np.uint8)
        return np.stack([self.dataset.image(i) for i in chosen])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingImages:
    """Images with labels.

    Args:
        levels: uint8 (N, H, W, 3), in memory, mapped from a file, or read when asked for.
        labels: int64 (N,), as the dataset calls them.
        classes: The labels that occur, ascending.
    """

    levels: NDArray[np.uint8] | FolderLevels
    labels: NDArray[np.int64]
    classes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        _, height, width, _ = self.levels.shape
        return height, width

    @property
    def first_label(self) -> int:
        """The label of class 0, where classes are counted as classifiers count them.

        Raises:
            InvalidConfig: Labels count neither from 0 nor from 1.
        """
        if self.classes[0] not in (0, 1):
            raise InvalidConfig(
                f"labels: expected such as count from 0 or from 1; got {self.classes[0]} to "
                f"{self.classes[-1]}"
            )
        return self.classes[0]

    def part(self, rows: slice) -> "TrainingImages":
        """Some of them, which still know of all classes."""
        levels = self.levels
        return TrainingImages(
            levels=FolderLevels(levels.dataset, levels.rows[rows])
            if isinstance(levels, FolderLevels)
            else levels[rows],
            labels=self.labels[rows],
            classes=self.classes,
        )


def training_images(source: ImageSource, path: Path | None = None) -> TrainingImages:
    """The images of a source that no tournament plays on.

    Args:
        path: Of `cifar10`, see there; of `folder` a folder with images/ and images.csv; of
            `arrays` one with images.npy, uint8 (N, H, W, 3), and labels.npy, integers (N,).

    Raises:
        MissingExtra, InvalidConfig, InvalidDataset: It is not there, or not what it should be.
    """
    if source is ImageSource.FOLDER:
        assert path is not None
        return _of_folder(load_dataset(path / IMAGES_FOLDER, path / IMAGES_CSV))
    if source is ImageSource.ARRAYS:
        assert path is not None
        levels = _mapped(path / IMAGES_ARRAY, np.uint8, "uint8 (N, H, W, 3)", 4)
        labels = _mapped(path / LABELS_ARRAY, np.integer, "integers (N,)", 1)
        if levels.shape[3] != 3 or len(levels) != len(labels) or not len(labels):
            raise InvalidConfig(
                f"{path}: expected {IMAGES_ARRAY} (N, H, W, 3) and as many {LABELS_ARRAY} (N,), "
                f"at least one; got {levels.shape} and {labels.shape}"
            )
        return _with_classes(levels, np.array(labels, np.int64))
    found = labelled_images(source.value, Part.TRAINING, path)
    return _with_classes(found.levels, found.labels)


def evaluation_split(
    source: ImageSource, path: Path | None, held_out: int | None
) -> tuple[TrainingImages, TrainingImages]:
    """The images to train on, and those to evaluate on.

    Public sets have a part for tournaments, which is evaluated on; of others it is the last
    `held_out` images.

    Raises:
        InvalidConfig: There are fewer, or `held_out` does not fit the source.
    """
    if source in (ImageSource.DIGITS, ImageSource.CIFAR10):
        if held_out is not None:
            raise InvalidConfig(f'held_out: goes only with "folder" or "arrays"; got "{source}"')
        found = labelled_images(source.value, Part.TOURNAMENT, path)
        return training_images(source, path), _with_classes(found.levels, found.labels)
    if path is None:
        raise InvalidConfig(f'dataset = "{source}": name its folder with --source')
    images = training_images(source, path)
    if held_out is None or held_out >= len(images):
        raise InvalidConfig(
            f"held_out: expected how many of the {len(images)} images, the last ones, are only "
            f"evaluated on; got {held_out}"
        )
    kept = len(images) - held_out
    return images.part(slice(kept)), images.part(slice(kept, None))


def _of_folder(dataset: Dataset) -> TrainingImages:
    levels = FolderLevels(dataset, range(len(dataset)))
    labels = dataset.labels.astype(np.int64)
    small = len(dataset) * dataset.height * dataset.width * 3 <= _IN_MEMORY
    return _with_classes(levels[:] if small else levels, labels)


def _mapped(path: Path, kind: Any, expected: str, dimensions: int) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidConfig(f"{path}: expected a NumPy array, {expected}: {error}") from error
    if not np.issubdtype(array.dtype, kind) or array.ndim != dimensions:
        raise InvalidConfig(
            f"{path}: expected a NumPy array, {expected}; got {array.dtype} {array.shape}"
        )
    return array


def _with_classes(
    levels: NDArray[np.uint8] | FolderLevels, labels: NDArray[np.int64]
) -> TrainingImages:
    return TrainingImages(levels=levels, labels=labels, classes=tuple(np.unique(labels).tolist()))
