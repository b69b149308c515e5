"""Fits a module to labelled images: classifiers, plain or adversarially trained, and denoisers.

What differs between them is the loss, a function of the module and a batch. The loop is that of
all training, `advcomp.training.loop`: a step is the same on any number of ranks.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from advcomp.players.fitting.fit_recipe import FREE, FitRecipe
from advcomp.players.fitting.judging import Judging
from advcomp.players.image.augmentation import moved
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import TrainingImages
from advcomp.training.checkpoint import identity_of, unsaid_in
from advcomp.training.draws import (
    ImageDraws,
    index_at,
    integer,
    key_of,
    module_draws,
    two_integers,
)
from advcomp.training.loop import Origin, Trained, TrainingRun, train
from advcomp.training.progress import EvaluationReport, TrainingObserver
from advcomp.training.ranks import Ranks

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """What a loss is given besides the module.

    Args:
        clean: Augmented images (n, 3, H, W) in [0, 1].
        labels: Their classes (n,), from 0.
        epoch: Counted from 0.
        draws: Where the loss takes randomness from.
    """

    clean: Tensor
    labels: Tensor
    epoch: int
    draws: ImageDraws

    def to(self, device: torch.device, layout: torch.memory_format) -> "LabelledBatch":
        """The same on a device; nobody waits for it."""
        clean = self.clean.to(device, non_blocking=True, memory_format=layout)
        return replace(self, clean=clean, labels=self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> "LabelledBatch":
        """The same where a GPU can fetch it without waiting."""
        return replace(self, clean=self.clean.pin_memory(), labels=self.labels.pin_memory())


TrainingLoss = Callable[[Module, LabelledBatch], Tensor]
"""The loss of every image of a batch, (n,), for a module in training mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTask(Generic[Module]):
    """A module in training on this rank.

    Args:
        first_label: Of class 0.
        judging: What tells how well it does meanwhile; the finished module is tried besides.
    """

    module: Module
    training_loss: TrainingLoss[Module]
    images: TrainingImages
    first_label: int
    recipe: FitRecipe
    ranks: Ranks
    judging: Judging[Module] | None = None

    def batch(self, step: int) -> LabelledBatch:
        """This rank's images of a step, moved and mirrored, on the CPU."""
        own = self.ranks.share(self.recipe.batch_size)
        return self._batch(step, own)

    def loss(self, batch: LabelledBatch, step: int) -> Tensor:
        """This rank's images' losses, over the size of the batch."""
        if not len(batch.labels):  # more ranks than images
            return torch.zeros((), device=self.ranks.device, requires_grad=True)
        with module_draws(self.ranks.device, self.recipe.seed, "module", step, self.ranks.rank):
            return self.training_loss(self.module, batch).sum() / self.recipe.batch_size

    def evaluate(
        self, average: Mapping[str, Tensor], step: int, folder: Path
    ) -> EvaluationReport | None:
        """How well the module does on what judges it; its weights are not averaged."""
        if self.judging is None:
            return None
        epoch = math.ceil(step / self.recipe.steps_an_epoch(len(self.images)))
        as_it_is = copy.deepcopy(self.module).eval().requires_grad_(False)
        kept = self.recipe.precision.kept
        return self.judging.report(as_it_is, step, epoch, self.ranks, kept)

    def whole_batch(self, step: int) -> dict[str, Tensor]:
        """All images of a step over all ranks."""
        batch = self._batch(step, slice(0, self.recipe.batch_size))
        return {"clean": batch.clean, "labels": batch.labels}

    def _batch(self, step: int, rows: slice) -> LabelledBatch:
        recipe, count = self.recipe, len(self.images)
        size = recipe.batch_size
        positions = range(step * size, (step + 1) * size)[rows]
        indices = [index_at(recipe.seed, count, position) for position in positions]
        shifts, mirrored, generator = [], [], torch.Generator()
        for position in positions:
            generator.manual_seed(key_of(recipe.seed, "image", position))
            shifts.append(two_integers(generator, 2 * recipe.shift + 1))
            mirrored.append(recipe.flip and bool(integer(generator, 2)))
        clean = moved(to_float(self.images.levels[indices]), recipe.shift, shifts, mirrored)
        return LabelledBatch(
            clean=clean.to(recipe.precision.kept),
            labels=torch.tensor(self.images.labels[indices] - self.first_label),
            epoch=step * size // count,
            draws=ImageDraws(recipe.seed, tuple(positions), step),
        )


def fit(
    module: Module,
    loss: TrainingLoss[Module],
    images: TrainingImages,
    recipe: FitRecipe,
    *,
    folder: Path,
    observer: TrainingObserver,
    name: str,
    first_label: int = 0,
    ranks: Ranks | None = None,
    judging: Judging[Module] | None = None,
) -> Trained:
    """Fit the module to the images, in place; it comes back in evaluation mode.

    Args:
        folder: Gets a checkpoint after every epoch, and losses; where there is a checkpoint
            already, training goes on. See `advcomp.training.loop.train`.
        observer: Is told how it goes, on the first rank, under this `name`.
        first_label: The label of class 0.
        ranks: This process's place; alone on the CPU where not given.
        judging: What tells the observer meanwhile how well the module does, if anybody asks.

    Raises:
        InvalidConfig: The checkpoint is unreadable or of another recipe.
    """
    ranks = ranks or Ranks()
    recipe.precision.refuse_unknown(ranks.device)
    module.to(ranks.device, recipe.precision.kept)
    task = FitTask(
        module=module,
        training_loss=loss,
        images=images,
        first_label=first_label,
        recipe=recipe,
        ranks=ranks,
        judging=judging,
    )
    judged_every = None if judging is None else judging.table.every_epochs
    run = TrainingRun(task, recipe.plan(len(images), judged_every), ranks)
    origin = Origin(
        name=name,
        identity={**identity_of(recipe, FREE), "images": str(len(images))},
        unsaid=unsaid_in(recipe, FREE),
        recipe=recipe.model_dump_json(),
        trained={},
    )
    trained = train(run, origin, folder, observer)
    module.eval()
    return trained
