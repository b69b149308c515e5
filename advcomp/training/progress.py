"""What a training run tells whoever watches it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """How a step went.

    Args:
        step: Counted from 0.
        loss: J, over all images and classifiers.
        gradient_norm: Before clipping.
        learning_rate: Of the step.
        skipped, in_a_row: Steps without a finite loss or gradient, which change nothing: so far,
            and since the last other one.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: int
    in_a_row: int


HINT_ALONE = "hint alone"
"""The attack that is made of nothing but what a network is told."""

ALL_CLASSIFIERS = "all together"
"""In place of a classifier's name: the mean over all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """By how much the network is ahead of another attack on the same images.

    Args:
        rate: The other attack's.
        gap: The network's rate less that.
        half_width: Of the 95 % interval about the gap: of the mean of paired differences, over
            images.
    """

    rate: float
    gap: float
    half_width: float

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest gap."""
        return self.gap - self.half_width, self.gap + self.half_width


class RateOf(StrEnum):
    """What happened to the images of a rate."""

    MISCLASSIFIED = "misclassified"
    HIT = "led to the target"
    RIGHT = "classified rightly"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """How well a module does on images that do not train it; of all, more is better.

    Args:
        step: How many steps are done.
        epoch: How many epochs those are, begun ones among them; None where nobody counts them.
        of: What the rates are shares of.
        rates: (classifier, max_epsilon) to the share of images: by an attack network's attack on
            classifiers that do not train it, or of a classifier under attack.
        clean_rates: The same of clean images, which no attack network leads anywhere: the share
            that the classifier misclassifies.
        picture: A PNG of examples, if one was drawn.
        gaps: (attack, classifier, max_epsilon) to how far the network is ahead of what anybody
            has without learning; `ALL_CLASSIFIERS` stands for the mean, where there are several.
    """

    step: int
    of: RateOf
    rates: Mapping[tuple[str, int], float]
    clean_rates: Mapping[str, float]
    epoch: int | None = None
    picture: Path | None = None
    gaps: Mapping[tuple[str, str, int], Gap] = field(default_factory=dict)


class TrainingObserver(Protocol):
    """Is told, on the first rank only."""

    def note(self, text: str) -> None:
        """Something that a user should know."""

    def started(self, name: str, first_step: int, steps: int, images_a_step: int) -> None:
        """Training of what has this name begins with this step."""

    def stepped(self, report: StepReport) -> None:
        """A step is done."""

    def evaluated(self, report: EvaluationReport) -> None:
        """An evaluation is done."""


class SilentObserver:
    """An observer that shows nothing: that of all ranks but the first."""

    def note(self, text: str) -> None:
        """Nothing."""

    def started(self, name: str, first_step: int, steps: int, images_a_step: int) -> None:
        """Nothing."""

    def stepped(self, report: StepReport) -> None:
        """Nothing."""

    def evaluated(self, report: EvaluationReport) -> None:
        """Nothing."""
