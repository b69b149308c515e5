"""The batch of a step: which images, moved how, at which epsilon.

A batch is a function of the seed and the step: image j of step s has the *position* s B + j, and
everything about it is drawn from a key with this position. Each epoch is a new order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advcomp.attacknet.recipe import AttackNetworkRecipe, DataTable
from advcomp.errors import InvalidConfig
from advcomp.players.image.augmentation import moved
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import TrainingImages, training_images
from advcomp.rules.threat import eps_of
from advcomp.training.draws import generator_of, index_at, integer, two_integers


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackBatch:
    """Some images of a step.

    Args:
        positions: Of each, in the order of all images of all steps.
        clean: (n, 3, H, W) in [0, 1].
        labels: (n,).
        eps: (n,).
        targets: Target labels (n,); None where the network does not aim.
        places: Of each the place of its kept gradients (`place_of`); empty where none are kept.
    """

    positions: tuple[int, ...]
    clean: Tensor
    labels: Tensor
    eps: Tensor
    targets: Tensor | None
    places: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.positions)

    def to(self, device: torch.device, layout: torch.memory_format) -> "AttackBatch":
        """The same on a device; nobody waits for it."""
        return self._each(
            lambda x: x.to(
                device,
                non_blocking=True,
                memory_format=layout if x.ndim == 4 else torch.preserve_format,
            )
        )

    def pin_memory(self) -> "AttackBatch":
        """The same where a GPU can fetch it without waiting."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "AttackBatch":
        return replace(
            self,
            clean=change(self.clean),
            labels=change(self.labels),
            eps=change(self.eps),
            targets=None if self.targets is None else change(self.targets),
        )

    def rows(self, rows: slice) -> "AttackBatch":
        """Some of them."""
        return AttackBatch(
            positions=self.positions[rows],
            clean=self.clean[rows],
            labels=self.labels[rows],
            eps=self.eps[rows],
            targets=None if self.targets is None else self.targets[rows],
            places=self.places[rows],
        )

    def at(self, rows: Tensor) -> "AttackBatch":
        """Those at some places, (m,) on the CPU."""
        own = replace(
            self,
            positions=tuple(self.positions[row] for row in rows.tolist()),
            places=tuple(self.places[row] for row in rows.tolist()) if self.places else (),
        )
        return own._each(lambda x: x[rows.to(x.device, non_blocking=True)])


def load_images(table: DataTable) -> tuple[TrainingImages, TrainingImages]:
    """The images to train on, and those to evaluate on; no tournament plays on either.

    Raises:
        InvalidConfig: There are too few, or see the datasets.
        InvalidDataset: See `load_dataset`.
    """
    images = training_images(table.source, table.path)
    if len(images) <= table.validation_images:
        raise InvalidConfig(
            f"[data] validation_images: expected fewer than the images, {len(images)}; got "
            f"{table.validation_images}"
        )
    kept = len(images) - table.validation_images
    used = kept if table.images is None else table.images
    if used > kept:
        raise InvalidConfig(
            f"[data] images: expected at most those that are not evaluated on, {kept}; got {used}"
        )
    return images.part(slice(used)), images.part(slice(kept, None))


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
    indices = [index_at(recipe.seed, len(images), position) for position in positions]
    clean = to_float(images.levels[indices])
    labels = torch.tensor(images.labels[indices])
    return AttackBatch(
        positions=tuple(positions),
        clean=moved(
            clean,
            recipe.data.shift,
            [draw.shift for draw in drawn],
            [draw.mirrored for draw in drawn],
        ).to(dtype),
        labels=labels,
        eps=torch.tensor([eps_of(draw.max_epsilon) for draw in drawn], dtype=dtype),
        targets=_targets(images.classes, labels, [draw.target for draw in drawn])
        if recipe.threat.targeted
        else None,
        places=tuple(
            place_of(recipe, index, draw.mirrored, draw.max_epsilon)
            for index, draw in zip(indices, drawn, strict=True)
        )
        if recipe.gradients.keep or recipe.teacher.keep
        else (),
    )


def place_of(recipe: AttackNetworkRecipe, index: int, mirrored: bool, max_epsilon: int) -> int:
    """Where the gradients of an image are kept, of all that `places_of` counts.

    A first gradient does not depend on epsilon, the others do.
    """
    steps = max(recipe.gradients.count, recipe.teacher.count)
    levels = recipe.threat.max_epsilons if steps > 1 else (max_epsilon,)
    shown = index * (1 + recipe.data.flip) + mirrored
    return shown * len(levels) + levels.index(max_epsilon)


def places_of(recipe: AttackNetworkRecipe, images: TrainingImages) -> int:
    """How many places there are."""
    last = recipe.threat.max_epsilons[-1]
    return 1 + place_of(recipe, len(images) - 1, recipe.data.flip, last)


def drawn_targets(seed: int, positions: Sequence[int], count: int, each: int) -> Tensor:
    """Which of `count` target classifiers the images at some positions meet: `each` of them.

    Returns:
        Bool (images, count).
    """
    met = torch.ones(len(positions), count, dtype=torch.bool)
    if each < count:
        for row, position in zip(met, positions, strict=True):
            left_out = torch.randperm(count, generator=generator_of(seed, "targets", position))
            row[left_out[each:]] = False
    return met


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
    levels = recipe.threat.max_epsilons
    return _Draw(
        max_epsilon=levels[integer(generator, len(levels))],
        shift=two_integers(generator, 2 * recipe.data.shift + 1),
        mirrored=recipe.data.flip and bool(integer(generator, 2)),
        target=integer(generator, _others(images)),
    )


def _others(images: TrainingImages) -> int:
    """How many classes an image could be led to; drawn from even where there is no aim."""
    return max(1, len(images.classes) - 1)


def _targets(classes: Sequence[int], labels: Tensor, drawn: Sequence[int]) -> Tensor:
    """For each label the drawn one of the others."""
    pairs = zip(labels.tolist(), drawn, strict=True)
    return torch.tensor([[c for c in classes if c != label][draw] for label, draw in pairs])
