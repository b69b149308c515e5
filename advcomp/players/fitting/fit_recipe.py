"""How a module is fitted, as a recipe says it, whatever the module is and whatever its loss."""

import math
from typing import Self

from pydantic import Field, field_validator, model_validator

from advcomp.rules.toml_fields import one_of
from advcomp.rules.toml_file import Table, problem
from advcomp.training.checkpoint import Free
from advcomp.training.settings import FLAG, Plan, Precision

FREE: Free = {"channels_last": True, "workers": True}
"""What may differ when a training goes on."""


class FitRecipe(Table):
    """How a module is fitted, whatever it is and whatever its loss.

    AdamW; the learning rate warms up, then falls to 0 along half a cosine. How long is said in
    epochs or in steps.
    """

    seed: int = Field(default=0, ge=0, description="an integer, at least 0")
    epochs: int = Field(default=60, ge=1, description="a number of epochs, at least 1")
    training_steps: int | None = Field(
        default=None, ge=1, description="a number of steps, at least 1"
    )
    batch_size: int = Field(default=64, ge=1, description="a number of images, at least 1")
    learning_rate: float = Field(default=3e-3, gt=0, description="a number above 0")
    weight_decay: float = Field(default=0.01, ge=0, description="a number, at least 0")
    warm_up_epochs: int = Field(default=0, ge=0, description="a number of epochs, at least 0")
    warm_up_steps: int | None = Field(
        default=None, ge=0, description="a number of steps, at least 0"
    )
    shift: int = Field(default=2, ge=0, description="pixels, at least 0")
    flip: bool = Field(
        default=False, description="true where an image and its mirror image are alike"
    )
    precision: Precision = Field(
        default=Precision.FLOAT32, strict=False, description=one_of(Precision)
    )
    channels_last: bool = Field(default=False, description=FLAG)
    workers: int = Field(
        default=0, ge=0, description="processes of each rank that make batches, at least 0"
    )

    @field_validator("precision", mode="before")
    @classmethod
    def _has_one_word(cls, precision: object) -> object:
        """Recipes of earlier versions say "bfloat16"."""
        return "bf16" if precision == "bfloat16" else precision

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        for steps, epochs in (("training_steps", "epochs"), ("warm_up_steps", "warm_up_epochs")):
            if {steps, epochs} <= self.model_fields_set:
                raise problem(f"{steps}: expected either {steps} or {epochs}; got both")
        return self

    def steps_an_epoch(self, images: int) -> int:
        """Steps until so many images have been seen."""
        return math.ceil(images / self.batch_size)

    def plan(self, images: int, judged_every: int | None = None) -> Plan:
        """How long, how fast and in what; a checkpoint follows every epoch of so many images.

        Args:
            judged_every: After how many epochs the module is evaluated; at the end where None.
        """
        epoch = self.steps_an_epoch(images)
        steps = self.training_steps or math.ceil(self.epochs * images / self.batch_size)
        warm_up = self.warm_up_epochs * epoch if self.warm_up_steps is None else self.warm_up_steps
        return Plan(
            seed=self.seed,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warm_up_steps=min(warm_up, steps - 1),
            weight_decay=self.weight_decay,
            clip_norm=math.inf,
            average=0.0,
            max_skipped=10,
            precision=self.precision,
            channels_last=self.channels_last,
            workers=self.workers,
            evaluate_every=steps if judged_every is None else judged_every * epoch,
            checkpoint_every=epoch,
            keep=1,
        )
