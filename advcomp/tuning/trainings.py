"""What a recipe trains, whichever kind it is: an attack network, a classifier or a denoiser."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_file import nearest, parse_toml
from advcomp.training.launch import Launch
from advcomp.training.progress import TrainingObserver
from advcomp.tuning.entry_settings import Settings, refused_values
from advcomp.tuning.space import Dimension
from advcomp.tuning.subject import EPOCHS, STEPS
from advcomp.tuning.tune_file import TunedQuantity, TuneFile

if TYPE_CHECKING:
    from advcomp.attacknet.recipe import AttackNetworkRecipe
    from advcomp.players.classifier.classifier_recipe import ClassifierRecipes
    from advcomp.players.defense.train_denoiser import DenoiserRecipes
    from advcomp.players.training_images import TrainingImages

ALONE = Launch()
"""Whatever started the processes of a study, each trains by itself."""


class Training(Protocol):
    """What is trained, and what its trials are compared at."""

    @property
    def unit(self) -> str:
        """What its evaluations are counted in."""

    @property
    def first(self) -> int:
        """After how many of those it is first evaluated."""

    @property
    def model(self) -> Any:
        """What its recipe must fit."""

    @property
    def name(self) -> str | None:
        """Which of the recipe's it is; None where a recipe is of one thing."""

    @property
    def weights(self) -> list[tuple[str, Path]]:
        """The files of classifiers that it is trained or judged with, and what names them."""

    def changes_nothing(self, key: tuple[str, ...]) -> str | None:
        """What to do instead about a key that is not of the training; None where it is."""

    def carry_out(self, recipe: Path, folder: Path, observer: TrainingObserver) -> bool:
        """Train by a recipe, or go on in the folder; False where it was stopped.

        Raises:
            AdvcompError: It cannot be trained so.
        """


def training_of(tune: TuneFile, recipe: Settings) -> Training:
    """What the file tunes, its space checked.

    Raises:
        InvalidConfig: All that does not fit, or all that is wrong with the recipe itself.
    """
    kinds = {"classifier", "denoiser"} & recipe.table.keys()
    training = _player(tune, recipe, *kinds) if kinds else _network(tune, recipe)
    problems = [
        problem for each in tune.dimensions for problem in _misfits(tune, recipe, training, each)
    ]
    if problems:
        raise InvalidConfig(*problems)
    return training


def _misfits(
    tune: TuneFile, recipe: Settings, training: Training, each: Dimension
) -> Iterator[str]:
    if remedy := training.changes_nothing(each.key):
        yield f"{tune.place('space', *each.key)}: {remedy}"
    else:
        yield from refused_values(tune, recipe, training.model, each)


def _network(tune: TuneFile, recipe: Settings) -> Training:
    from advcomp.attacknet.recipe import load_network_recipe

    assert tune.recipe is not None
    read = load_network_recipe(tune.recipe)
    if not read.validation:
        raise InvalidConfig(
            f"{recipe.path}: expected [[validation]] classifiers, which trainings are judged by"
        )
    problems = [
        f"{tune.place(key)}: goes only with a recipe of classifiers or denoisers; {recipe.path} "
        "is of an attack network: take it out"
        for key, value in (("train", tune.train), ("source", tune.source))
        if value is not None
    ]
    if TunedQuantity.CLEAN_ACCURACY in tune.objective.of:
        problems.append(
            f"{tune.place('objective', 'of')}: an attack network is judged by score or "
            f'worst_case, against its [[validation]] classifiers; got "clean_accuracy"'
        )
    if problems:
        raise InvalidConfig(*problems)
    return AttackNetworkTraining(recipe=read)


@dataclass(frozen=True, kw_only=True)
class AttackNetworkTraining:
    """The training of an attack network."""

    recipe: "AttackNetworkRecipe"
    unit = STEPS
    name = None

    @property
    def first(self) -> int:
        """See `Training`."""
        return self.recipe.output.evaluate_every

    @property
    def model(self) -> Any:
        """See `Training`."""
        return type(self.recipe)

    @property
    def weights(self) -> list[tuple[str, Path]]:
        """See `Training`."""
        return [
            *(("[[targets]]", item.weights) for item in self.recipe.targets),
            *(("[[validation]]", item.weights) for item in self.recipe.validation),
        ]

    def changes_nothing(self, key: tuple[str, ...]) -> str | None:
        """See `Training`."""
        return _JUDGES if key[0] == "validation" else None

    def carry_out(self, recipe: Path, folder: Path, observer: TrainingObserver) -> bool:
        """See `Training`."""
        from advcomp.attacknet.train import train_attack_network

        return not train_attack_network(recipe, observer, out=folder, launch=ALONE).interrupted


_JUDGES = "judges trainings, and is not tuned: take it out"


def _player(tune: TuneFile, recipe: Settings, kind: str, *more: str) -> Training:
    from advcomp.players.classifier.classifier_recipe import ClassifierRecipes
    from advcomp.players.defense.train_denoiser import DenoiserRecipes

    if more:
        raise InvalidConfig(f"{recipe.path}: expected classifiers or denoisers; got both")
    if kind == "classifier":
        recipes: ClassifierRecipes | DenoiserRecipes
        recipes = parse_toml(recipe.text, recipe.path, ClassifierRecipes)
        known = list(recipes.classifier)
    else:
        recipes = parse_toml(recipe.text, recipe.path, DenoiserRecipes)
        known = list(recipes.denoiser)
    if recipes.validation is None:
        networks = "" if kind == "classifier" else ', networks = ["..."]'
        raise InvalidConfig(
            f"{recipe.path}: expected a table [validation], which trainings are judged by: "
            f"validation = {{ images = 200, max_epsilons = [0, 16]{networks} }}"
        )
    return PlayerTraining(
        kind=kind,
        name=_chosen(tune, recipe, known),
        recipes=recipes,
        own=_own_table(recipe, kind),
        beside=recipe.path.parent / "weights",
        source=tune.source,
    )


def _own_table(recipe: Settings, kind: str) -> dict[str, Any]:
    table = recipe.table[kind]
    assert isinstance(table, dict)
    return table


def _chosen(tune: TuneFile, recipe: Settings, known: list[str]) -> str:
    if tune.train is None and len(known) == 1:
        return known[0]
    if tune.train is None:
        raise InvalidConfig(
            f"{tune.path}: expected `train`, which says whose training of {recipe.path} is tuned: "
            f"{', '.join(known)}"
        )
    if tune.train not in known:
        raise InvalidConfig(
            f"{tune.place('train')}: expected one that {recipe.path} trains; got "
            f'"{tune.train}"; the nearest is "{nearest(tune.train, known)}"'
        )
    return tune.train


@dataclass(frozen=True, kw_only=True)
class PlayerTraining:
    """The training of a classifier or a denoiser of a file of recipes.

    Args:
        kind: Which of the two: the name of their table.
        own: What the file says of each, by name.
        beside: Where the recipe's weights are.
        source: Where its dataset is, if it is not made here.
    """

    kind: str
    name: str
    recipes: "ClassifierRecipes | DenoiserRecipes"
    own: dict[str, Any]
    beside: Path
    source: Path | None
    unit = EPOCHS

    @property
    def first(self) -> int:
        """See `Training`."""
        assert self.recipes.validation is not None
        return self.recipes.validation.every_epochs

    @property
    def model(self) -> Any:
        """See `Training`."""
        return type(self.recipes)

    @property
    def weights(self) -> list[tuple[str, Path]]:
        """See `Training`."""
        own = getattr(self.recipes, self.kind)[self.name]
        place = f"[{self.kind}.{self.name}]"
        named = {"[validation]": getattr(self.recipes.validation, "networks", ())}
        named[place] = (
            own.objective.networks
            if self.kind == "classifier"
            else (own.classifier, *own.networks)
        )
        return [
            (place, self.beside / f"{name}.safetensors")
            for place, names in named.items()
            for name in names
        ]

    def changes_nothing(self, key: tuple[str, ...]) -> str | None:
        """See `Training`."""
        if key[0] in ("validation", "evaluation"):
            return _JUDGES
        own = f"[{self.kind}.{self.name}]"
        if key[0] == "defaults" and self.kind == "classifier":
            said = len(key) > 1 and key[1] in self.own[self.name]
            return f"{own} itself says it: tune it there" if said else None
        if key[:2] != (self.kind, self.name):
            shared = " or [defaults]" if self.kind == "classifier" else ""
            return f"is not of the training of {self.name}: expected keys of {own}{shared}"
        return None

    def carry_out(self, recipe: Path, folder: Path, observer: TrainingObserver) -> bool:
        """See `Training`."""
        from advcomp.players.classifier.train_classifier import train_listed
        from advcomp.players.defense import train_denoiser
        from advcomp.training.ranks import joined_ranks

        recipes: Any = parse_toml(recipe.read_text(encoding="utf-8"), recipe, self.model)
        train: Any = train_listed if self.kind == "classifier" else train_denoiser.train_listed
        with joined_ranks(ALONE) as ranks:
            trained = train(
                recipes,
                self.name,
                self._images,
                weights=self.beside,
                folder=folder,
                ranks=ranks,
                observer=observer,
            )
        return trained is not None

    @cached_property
    def _images(self) -> "TrainingImages":
        from advcomp.players.training_images import evaluation_split

        held_out = self.recipes.evaluation.held_out
        return evaluation_split(self.recipes.dataset, self.source, held_out)[0]
