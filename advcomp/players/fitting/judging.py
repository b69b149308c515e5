"""How well a module does while it is fitted, on images that train nothing.

What judges while somebody chooses is kept apart from what gives the final figure: validation
images are of the part that would else train, never those that a finished module is tried on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.answers import Model
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import TrainingImages
from advcomp.rules.threat import eps_of
from advcomp.rules.toml_fields import at_least
from advcomp.rules.toml_file import Table
from advcomp.training.progress import EvaluationReport, RateOf
from advcomp.training.ranks import Ranks

Module = TypeVar("Module", bound=nn.Module)

_AT_ONCE = 250
"""Images that are attacked and classified together."""


class ValidationTable(Table):
    """[validation]: what judges a module while it is fitted."""

    images: int = Field(
        ge=1,
        description="how many images, the last of those that would train, only judge; at least 1",
    )
    max_epsilons: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], at_least(1)] = Field(
        default=(0,), strict=False, description="a list of pixel levels, 0..255"
    )
    steps: int = Field(default=10, ge=1, description="a number of the attack's steps, at least 1")
    every_epochs: int = Field(default=1, ge=1, description="a number of epochs, at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging(Generic[Module]):
    """What judges a module while it is fitted.

    Args:
        name: What observers call the module's answers.
        images: Which train nothing.
        table: How often, and at which budgets.
        answering: What classifies, where the module is; gives logits.
        attack: Adversarial images (n, 3, H, W) of clean ones, their classes (n,) from 0, and an
            eps on the [0, 1] scale; it may look at what answers.
    """

    name: str
    images: TrainingImages
    table: ValidationTable
    answering: Callable[[Module], Model]
    attack: Callable[[Model, Tensor, Tensor, float], Tensor]

    def report(
        self, module: Module, step: int, epoch: int, ranks: Ranks, dtype: torch.dtype
    ) -> EvaluationReport:
        """The share of images that are classified rightly at each budget; ranks take shares.

        Args:
            module: In evaluation mode, its parameters frozen.
            dtype: What images are computed in.
        """
        answers, levels = self.answering(module), self.table.max_epsilons
        right = dict.fromkeys((0, *levels), 0.0)
        for clean, labels in self._batches(ranks, dtype):
            for level in right:
                x = self.attack(answers, clean, labels, eps_of(level)) if level else clean
                with torch.no_grad():
                    right[level] += float((answers(x).argmax(1) == labels).sum())
        totals = zip(right, ranks.total(*right.values()), strict=True)
        rates = {level: total / len(self.images) for level, total in totals}
        return EvaluationReport(
            step=step,
            epoch=epoch,
            of=RateOf.RIGHT,
            rates={(self.name, level): rates[level] for level in levels},
            clean_rates={self.name: rates[0]},
        )

    def _batches(self, ranks: Ranks, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's images in [0, 1], and their classes."""
        own, first = ranks.share(len(self.images)), self.images.first_label
        for at in range(own.start, own.stop, _AT_ONCE):
            rows = slice(at, min(at + _AT_ONCE, own.stop))
            clean = to_float(self.images.levels[rows]).to(ranks.device, dtype)
            yield clean, torch.tensor(self.images.labels[rows] - first, device=ranks.device)


def split(
    images: TrainingImages, table: ValidationTable | None
) -> tuple[TrainingImages, TrainingImages | None]:
    """The images that train, and those that judge; None where nobody judges.

    Raises:
        InvalidConfig: None would be left to train.
    """
    if table is None:
        return images, None
    kept = len(images) - table.images
    if kept < 1:
        raise InvalidConfig(
            f"[validation] images: expected fewer than the images that would train, "
            f"{len(images)}; got {table.images}"
        )
    return images.part(slice(kept)), images.part(slice(kept, None))
