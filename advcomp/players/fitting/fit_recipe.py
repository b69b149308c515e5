"""How a module is fitted, as a recipe says it, whatever the module is and whatever its loss."""

from typing import Literal

from pydantic import Field, field_validator

from advcomp.rules.toml_file import Table


class FitRecipe(Table):
    """How a module is fitted, whatever it is and whatever its loss.

    AdamW; the learning rate warms up over `warm_up_epochs`, under a cosine that falls to 0.
    """

    seed: int = Field(default=0, ge=0, description="an integer, at least 0")
    epochs: int = Field(default=60, ge=1, description="a number of epochs, at least 1")
    batch_size: int = Field(default=64, ge=1, description="a number of images, at least 1")
    learning_rate: float = Field(default=3e-3, gt=0, description="a number above 0")
    weight_decay: float = Field(default=0.01, ge=0, description="a number, at least 0")
    warm_up_epochs: int = Field(default=0, ge=0, description="a number of epochs, at least 0")
    shift: int = Field(default=2, ge=0, description="pixels, at least 0")
    flip: bool = Field(
        default=False, description="true where an image and its mirror image are alike"
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32",
        description='"float32", or "bf16" for convolutions and products in 16 bits',
    )
    channels_last: bool = Field(default=False, description="true or false")

    @field_validator("precision", mode="before")
    @classmethod
    def _has_one_word(cls, precision: object) -> object:
        """Recipes of earlier versions say "bfloat16"."""
        return "bf16" if precision == "bfloat16" else precision
