"""Training images in memory, and the batch of a step: which images, moved how, at which epsilon.

A batch is a function of the seed and the step: image j of step s has the *position* s B + j, and
everything about it is drawn from a key with this position. Each epoch is a new order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from advcomp.attacknet.recipe import AttackNetworkRecipe, DataTable, ImageSource
from advcomp.errors import InvalidConfig
from advcomp.players.datasets import Part, cifar10, digits
from advcomp.players.image.pixels import to_float
from advcomp.rules.dataset import IMAGES_CSV, IMAGES_FOLDER, load_dataset
from advcomp.rules.threat import eps_of
from advcomp.training.draws import generator_of, integer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImages:
    """Images with labels.

    Args:
        levels: uint8 (N, H, W, 3).
        labels: int64 (N,), as the dataset calls them.
        classes: The labels that occur, ascending.
    """

    levels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: slice) -> "TrainingImages":
        """Some of them, which still know of all classes."""
        return TrainingImages(
            levels=self.levels[rows], labels=self.labels[rows], classes=self.classes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackBatch:
    """Some images of a step.

    Args:
        positions: Of each, in the order of all images of all steps.
        clean: (n, 3, H, W) in [0, 1].
        labels: (n,).
        eps: (n,).
        targets: Target labels (n,); None where the network does not aim.
    """

    positions: tuple[int, ...]
    clean: Tensor
    labels: Tensor
    eps: Tensor
    targets: Tensor | None

    def __len__(self) -> int:
        return len(self.positions)

    def rows(self, rows: slice) -> "AttackBatch":
        """Some of them."""
        return AttackBatch(
            positions=self.positions[rows],
            clean=self.clean[rows],
            labels=self.labels[rows],
            eps=self.eps[rows],
            targets=None if self.targets is None else self.targets[rows],
        )


def load_images(table: DataTable) -> tuple[TrainingImages, TrainingImages]:
    """The images to train on, and those to evaluate on; no tournament plays on either.

    Raises:
        InvalidConfig: There are too few, or see the datasets.
        InvalidDataset: See `load_dataset`.
    """
    images = _read(table)
    if len(images) <= table.validation_images:
        raise InvalidConfig(
            f"[data] validation_images: expected fewer than the images, {len(images)}; got "
            f"{table.validation_images}"
        )
    kept = len(images) - table.validation_images
    return images.part(slice(kept)), images.part(slice(kept, None))


def batch_of(
    recipe: AttackNetworkRecipe,
    images: TrainingImages,
    step: int,
    rows: slice,
    dtype: torch.dtype = torch.float32,
) -> AttackBatch:
    """The images `rows` of the global batch of a step, on the CPU."""
    size = recipe.training.batch_size
    positions = range(step * size, (step + 1) * size)[rows]
    drawn = [_draw(recipe, images, position) for position in positions]
    indices = [_index(recipe.seed, len(images), position) for position in positions]
    clean = to_float(images.levels[indices])
    moved = [
        _moved(image, recipe.data, draw.shift, draw.mirrored)
        for image, draw in zip(clean, drawn, strict=True)
    ]
    labels = torch.tensor(images.labels[indices])
    return AttackBatch(
        positions=tuple(positions),
        clean=torch.stack(moved).to(dtype),
        labels=labels,
        eps=torch.tensor([eps_of(draw.max_epsilon) for draw in drawn], dtype=dtype),
        targets=_targets(images.classes, labels, [draw.target for draw in drawn])
        if recipe.threat.targeted
        else None,
    )


def validation_batch(
    recipe: AttackNetworkRecipe,
    images: TrainingImages,
    rows: slice,
    max_epsilon: int,
    dtype: torch.dtype,
) -> AttackBatch:
    """Images to evaluate on, unmoved; their target classes do not change between evaluations."""
    labels = torch.tensor(images.labels[rows])
    positions = tuple(range(len(images))[rows])
    drawn = [
        integer(generator_of(recipe.seed, "validation", position), _others(images))
        for position in positions
    ]
    return AttackBatch(
        positions=positions,
        clean=to_float(images.levels[rows]).to(dtype),
        labels=labels,
        eps=torch.full((len(labels),), eps_of(max_epsilon), dtype=dtype),
        targets=_targets(images.classes, labels, drawn) if recipe.threat.targeted else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draw:
    max_epsilon: int
    shift: tuple[int, int]
    mirrored: bool
    target: int


def _draw(recipe: AttackNetworkRecipe, images: TrainingImages, position: int) -> _Draw:
    generator = generator_of(recipe.seed, "image", position)
    levels, shift = recipe.threat.max_epsilons, recipe.data.shift
    return _Draw(
        max_epsilon=levels[integer(generator, len(levels))],
        shift=(integer(generator, 2 * shift + 1), integer(generator, 2 * shift + 1)),
        mirrored=recipe.data.flip and bool(integer(generator, 2)),
        target=integer(generator, _others(images)),
    )


def _others(images: TrainingImages) -> int:
    """How many classes an image could be led to; drawn from even where there is no aim."""
    return max(1, len(images.classes) - 1)


def _index(seed: int, count: int, position: int) -> int:
    epoch, place = divmod(position, count)
    return int(_order(seed, count, epoch)[place])


@lru_cache(maxsize=2)
def _order(seed: int, count: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_of(seed, "order", epoch))


def _moved(image: Tensor, table: DataTable, shift: tuple[int, int], mirrored: bool) -> Tensor:
    """Edge pixels are repeated where the image has been."""
    if table.shift:
        height, width = image.shape[-2:]
        padded = functional.pad(image.unsqueeze(0), (table.shift,) * 4, mode="replicate")[0]
        image = padded[:, shift[0] : shift[0] + height, shift[1] : shift[1] + width]
    return image.flip(-1) if mirrored else image


def _targets(classes: Sequence[int], labels: Tensor, drawn: Sequence[int]) -> Tensor:
    """For each label the drawn one of the others."""
    pairs = zip(labels.tolist(), drawn, strict=True)
    return torch.tensor([[c for c in classes if c != label][draw] for label, draw in pairs])


def _read(table: DataTable) -> TrainingImages:
    if table.source is ImageSource.FOLDER:
        assert table.path is not None
        dataset = load_dataset(table.path / IMAGES_FOLDER, table.path / IMAGES_CSV)
        levels = np.stack([dataset.image(i) for i in range(len(dataset))])
        return _with_classes(levels, dataset.labels.astype(np.int64))
    if table.source is ImageSource.DIGITS:
        found = digits(Part.TRAINING)
    else:
        assert table.path is not None
        found = cifar10(Part.TRAINING, table.path)
    return _with_classes(found.levels, found.labels)


def _with_classes(levels: NDArray[np.uint8], labels: NDArray[np.int64]) -> TrainingImages:
    return TrainingImages(levels=levels, labels=labels, classes=tuple(np.unique(labels).tolist()))
