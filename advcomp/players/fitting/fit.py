"""The training loop of every module: classifiers, plain or adversarially trained, and denoisers.

What differs is the loss, a function of the module and a batch. The loop owns the rest: shuffling,
augmentation, the optimizer and its schedule, several ranks (`ranks`), and a checkpoint after
every epoch from which a killed run goes on to the identical result. All randomness comes from one
generator that draws for the whole batch on every rank and is stored in the checkpoint.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from advcomp.errors import InvalidConfig
from advcomp.players.datasets import LabelledImages
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.players.image.pixels import to_float
from advcomp.rules.durable import write_durably
from advcomp.training.ranks import Ranks
from advcomp.training.schedule import learning_rate

Module = TypeVar("Module", bound=nn.Module)

_KEPT = {"recipe", "epochs", "module", "optimizer", "generator"}
"""The keys of a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDraws:
    """Random numbers for a rank's share of a batch of `n`, the same for every number of ranks."""

    generator: torch.Generator
    n: int
    share: slice

    def uniform(self, like: Tensor, low: float, high: float) -> Tensor:
        """In [low, high), in the shape of the share."""
        drawn = torch.empty(self.n, *like.shape[1:])
        return drawn.uniform_(low, high, generator=self.generator)[self.share].to(like)

    def normal(self, like: Tensor) -> Tensor:
        """Of mean 0 and variance 1, in the shape of the share."""
        drawn = torch.empty(self.n, *like.shape[1:])
        return drawn.normal_(generator=self.generator)[self.share].to(like)

    def integers(self, below: int, rows: int) -> Tensor:
        """In 0..below - 1, (rows, share)."""
        return torch.randint(below, (rows, self.n), generator=self.generator)[:, self.share]

    def choice(self, among: int) -> int:
        """One number in 0..among - 1 for the whole batch."""
        return int(torch.randint(among, (), generator=self.generator))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """What a loss is given besides the module.

    Args:
        clean: Augmented images (n, 3, H, W) in [0, 1].
        labels: Their classes (n,).
        epoch: Counted from 0.
        draws: Where the loss takes randomness from.
    """

    clean: Tensor
    labels: Tensor
    epoch: int
    draws: BatchDraws


TrainingLoss = Callable[[Module, LabelledBatch], Tensor]
"""The loss of every image of a batch, (n,), for a module in training mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What is told after an epoch: its number from 1, of how many, its mean loss, its speed."""

    number: int
    of: int
    loss: float
    images_per_second: float


def fit(
    module: Module,
    loss: TrainingLoss[Module],
    images: LabelledImages,
    recipe: FitRecipe,
    *,
    checkpoint: Path | None = None,
    ranks: Ranks | None = None,
    report: Callable[[EpochReport], None] = lambda epoch: None,
) -> Module:
    """Fit the module to the images, in place; it comes back in evaluation mode.

    Args:
        checkpoint: Written after every epoch; where it is there already, training goes on.
        ranks: This process's place; alone on the CPU where not given.
        report: Called after every epoch on every rank.

    Raises:
        InvalidConfig: `checkpoint` is unreadable or of another recipe.
    """
    ranks = ranks or Ranks()
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    module.to(ranks.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        [parameter for parameter in module.parameters() if parameter.requires_grad],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    run = _FitState(module=module, optimizer=optimizer, generator=generator, recipe=recipe)
    done = run.load(checkpoint) if checkpoint and checkpoint.exists() else 0
    for epoch in range(done, recipe.epochs):
        began = time.perf_counter()
        mean_loss = _fit_epoch(run, loss, images, epoch, ranks)
        if checkpoint and ranks.is_first:
            run.save(checkpoint, epoch + 1)
        seconds = time.perf_counter() - began
        report(
            EpochReport(
                number=epoch + 1,
                of=recipe.epochs,
                loss=mean_loss,
                images_per_second=len(images.labels) / seconds,
            )
        )
    return module.eval()


def _fit_epoch(
    run: "_FitState[Module]",
    loss: TrainingLoss[Module],
    images: LabelledImages,
    epoch: int,
    ranks: Ranks,
) -> float:
    """One pass over the images; its mean loss."""
    module, optimizer, recipe = run.module.train(), run.optimizer, run.recipe
    rate = learning_rate(
        recipe.learning_rate,
        epoch,
        recipe.epochs,
        warm_up=recipe.warm_up_epochs,
        falls_from_the_start=True,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    total = torch.zeros((), device=ranks.device)
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # For what a module draws itself, such as dropout.
        torch.manual_seed((recipe.seed * recipe.epochs + epoch) * ranks.size + ranks.rank)
        for n, batch in _batches(run, images, epoch, ranks):
            optimizer.zero_grad()
            if len(batch.labels):
                with torch.autocast(
                    ranks.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"
                ):
                    share = loss(module, batch).sum()
                (share / n).backward()  # type: ignore[no-untyped-call]
                total += share.detach()
            ranks.all_reduce_gradients(module)
            optimizer.step()
    ranks.average_buffers(module)
    ranks.all_reduce([total])
    return float(total) / len(images.labels)


def _batches(
    run: "_FitState[Module]", images: LabelledImages, epoch: int, ranks: Ranks
) -> Iterator[tuple[int, LabelledBatch]]:
    """This rank's share of every batch, augmented, and how many images the whole batch has."""
    recipe, generator = run.recipe, run.generator
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    order = torch.randperm(len(images.labels), generator=generator)
    for index in torch.split(order, recipe.batch_size):
        draws = BatchDraws(generator=generator, n=len(index), share=ranks.share(len(index)))
        own = index[draws.share].numpy()
        clean = augment(to_float(images.levels[own]), recipe, draws)
        yield (
            len(index),
            LabelledBatch(
                clean=clean.to(ranks.device, memory_format=layout),
                labels=torch.tensor(images.labels[own], device=ranks.device),
                epoch=epoch,
                draws=draws,
            ),
        )


def augment(images: Tensor, recipe: FitRecipe, draws: BatchDraws) -> Tensor:
    """Move every image by up to `shift` pixels each way, edges repeated; mirror half of them."""
    shift, (height, width) = recipe.shift, images.shape[-2:]
    top, left = draws.integers(2 * shift + 1, 2).tolist()
    padded = functional.pad(images, (shift,) * 4, mode="replicate") if len(images) else images
    moved = images.clone()
    for i, (y, x) in enumerate(zip(top, left, strict=True)):
        moved[i] = padded[i, :, y : y + height, x : x + width]
    if recipe.flip:
        mirrored = draws.integers(2, 1).view(-1, 1, 1, 1) == 1
        moved = torch.where(mirrored, moved.flip(3), moved)
    return moved


@dataclass(frozen=True, slots=True, kw_only=True)
class _FitState(Generic[Module]):
    """All that a step changes; a checkpoint holds it."""

    module: Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    recipe: FitRecipe

    def save(self, path: Path, epochs: int) -> None:
        """Replace the checkpoint at `path`; a kill leaves the old one or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        torch.save(
            {
                "recipe": self.recipe.model_dump_json(),
                "epochs": epochs,
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
            },
            content,
        )
        write_durably(path, content.getvalue())

    def load(self, path: Path) -> int:
        """Go back to the checkpoint at `path`; how many epochs it has done."""
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            raise InvalidConfig(
                f"{path}: expected a checkpoint; delete it to start anew: {error}"
            ) from error
        if not isinstance(kept, dict) or _KEPT - kept.keys():
            raise InvalidConfig(
                f"{path}: expected a checkpoint of training; got another PyTorch file; "
                "delete it to start anew"
            )
        if kept["recipe"] != self.recipe.model_dump_json():
            raise InvalidConfig(
                f"{path}: expected a checkpoint of this recipe; got one of another; "
                "delete it to start anew"
            )
        self.module.load_state_dict(kept["module"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.generator.set_state(kept["generator"])
        return int(kept["epochs"])
