"""Training recipes: a TOML file for each dataset names classifiers and how each is trained."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.architectures import require_known
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.players.fitting.judging import ValidationTable
from advcomp.players.training_images import ImageSource
from advcomp.rules.threat import eps_of
from advcomp.rules.toml_fields import at_least, one_of
from advcomp.rules.toml_file import Table, problem, read_toml

ObjectiveName = Literal["plain", "fgsm", "pgd", "ensemble", "trades", "noise"]

_RADIUS = ("max_epsilon", "ramp_epochs")
_TAKES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "fgsm": _RADIUS,
    "pgd": (*_RADIUS, "steps"),
    "ensemble": (*_RADIUS, "networks"),
    "trades": (*_RADIUS, "steps", "beta"),
    "noise": ("sigma",),
}
"""The keys beside `name` that an objective takes."""

_NEEDS = {"max_epsilon", "steps", "networks", "sigma"}
"""Those of them that have no default."""


class TrainingObjective(Table):
    """What training minimises; `training_losses.loss_of` has the formulas and the papers.

    The radius grows linearly from 0 over the first `ramp_epochs`: at full radius from the start,
    a small network learns to answer the same for every image.
    """

    name: ObjectiveName = Field(default="plain", description=one_of(_TAKES))
    max_epsilon: int = Field(default=0, ge=0, le=255, description="pixel levels, 0..255")
    ramp_epochs: int = Field(default=1, ge=1, description="a number of epochs, at least 1")
    steps: int = Field(default=1, ge=1, description="a number of steps, at least 1")
    beta: float = Field(default=6.0, gt=0, description="a weight above 0")
    sigma: float = Field(
        default=0.0, gt=0, description="a standard deviation above 0, white being 1"
    )
    networks: Annotated[tuple[str, ...], at_least(1)] = Field(
        default=(), strict=False, description="names of classifiers that stand above"
    )

    @model_validator(mode="after")
    def _keys_fit_the_name(self) -> Self:
        takes, given = set(_TAKES[self.name]), self.model_fields_set - {"name"}
        if given - takes or _NEEDS & takes - given:
            keys = ", ".join(_TAKES[self.name]) or "no other key"
            raise problem(
                f'"{self.name}" takes {keys}'
                + _listed("; it has no ", given - takes)
                + _listed("; missing: ", _NEEDS & takes - given)
            )
        return self

    def eps(self, epoch: int) -> float:
        """The radius in an epoch, counted from 0."""
        return eps_of(self.max_epsilon) * min(1, (epoch + 1) / self.ramp_epochs)


class ClassifierRecipe(FitRecipe):
    """How one classifier is trained."""

    architecture: str = Field(description="the name of an architecture")
    objective: TrainingObjective = Field(
        default=TrainingObjective(), description="a table with an objective's name"
    )

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        try:
            require_known(architecture)
        except InvalidConfig as error:
            raise problem(str(error)) from None
        return architecture


class ClassifierEvaluation(Table):
    """How hard the trained classifiers are tried: PGD on images that did not train them."""

    max_epsilon: int = Field(ge=0, le=255, description="pixel levels, 0..255")
    steps: int = Field(default=20, ge=1, description="a number of steps, at least 1")
    images: int | None = Field(default=None, ge=1, description="how many images, at least 1")
    held_out: int | None = Field(
        default=None,
        ge=1,
        description="how many images of a folder, the last ones, train nothing; at least 1",
    )


class ClassifierRecipes(Table):
    """A file of recipes, by the classifier's name."""

    dataset: ImageSource = Field(strict=False, description=one_of(ImageSource))
    stored: Literal["float32", "float16"] = Field(
        default="float32", description='"float32" or "float16": how weights are stored'
    )
    held_back: int = Field(
        default=0,
        ge=0,
        description="how many images, the last of the training part, train no classifier",
    )
    validation: ValidationTable | None = Field(
        default=None, description="a table with a number of images"
    )
    evaluation: ClassifierEvaluation = Field(description="a table with max_epsilon")
    defaults: FitRecipe = Field(
        default=FitRecipe(), description="a table of what classifiers share"
    )
    classifier: dict[str, ClassifierRecipe] = Field(
        description="a table for each classifier, such as [classifier.conv_net_a]"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_are_filled_in(cls, data: dict[str, Any]) -> dict[str, Any]:
        defaults, tables = data.get("defaults", {}), data.get("classifier", {})
        if not isinstance(defaults, dict) or not isinstance(tables, dict):
            return data
        known = {key: defaults[key] for key in FitRecipe.model_fields if key in defaults}
        filled = {
            name: {**known, **table} if isinstance(table, dict) else table
            for name, table in tables.items()
        }
        return {**data, "classifier": filled}

    @model_validator(mode="after")
    def _networks_stand_above(self) -> Self:
        names = list(self.classifier)
        for i, (name, recipe) in enumerate(self.classifier.items()):
            if unknown := [each for each in recipe.objective.networks if each not in names[:i]]:
                above = ", ".join(names[:i]) or "none"
                raise problem(
                    f"[classifier.{name}] objective networks: expected classifiers that stand "
                    f"above it, {above}; got {', '.join(unknown)}"
                )
        return self


def read_classifier_recipes(path: Path) -> ClassifierRecipes:
    """The recipes of a TOML file.

    Raises:
        InvalidConfig: Lists all that is wrong with it.
    """
    return read_toml(path, ClassifierRecipes)


def _listed(before: str, names: set[str]) -> str:
    return before + ", ".join(sorted(names)) if names else ""
