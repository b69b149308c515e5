"""The file that says what is tuned, over which values, on whom, and what is best.

```toml
name = "mi-fgsm"
tournament = "digits.toml"
entry = "mi_fgsm"                    # one of its entries
settings = "attack.toml"             # a TOML file inside it

[opponents]
validation = ["plain", "jpeg"]       # whom trials meet
final = ["ensemble"]                 # who is met once, at the end; left out: those held out

[space]                              # as the settings file is laid out
parameters.decay = { low = 0.0, high = 2.0 }
parameters.steps = { low = 5, high = 40, log = true }
fusion = { choices = ["logits", "losses"] }

[objective]
of = ["score"]                       # two make a Pareto front
seconds_per_100_images = 20          # what takes longer cannot be best

[trials]
count = 50
```

Of a training, `recipe` stands in place of `entry` and `settings`; what validates it is in the
recipe.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr

from advcomp.errors import InvalidConfig
from advcomp.rules.submission import NAME_RULE
from advcomp.rules.toml_fields import Name, at_least, beside_the_file, one_of
from advcomp.rules.toml_file import Table, read_toml, shown_value, where
from advcomp.tuning.space import Dimension, SpaceProblems, dimensions

Located = Annotated[Path, AfterValidator(beside_the_file)]
NAMES = "one or more names of entries, each once"


class TunedQuantity(StrEnum):
    """What a trial can be judged by."""

    SCORE = "score"
    WORST_CASE = "worst_case"
    CLEAN_ACCURACY = "clean_accuracy"
    SECONDS = "seconds_per_100_images"

    @property
    def is_maximised(self) -> bool:
        """Whether more is better."""
        return self is not TunedQuantity.SECONDS


class SamplerName(StrEnum):
    """What proposes values."""

    TPE = "tpe"
    RANDOM = "random"


class PrunerName(StrEnum):
    """What ends trials before they have met everything."""

    HALVING = "halving"
    WILCOXON = "wilcoxon"
    NONE = "none"


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("repeated")
    return values


def _two_at_most(values: tuple[TunedQuantity, ...]) -> tuple[TunedQuantity, ...]:
    if not 1 <= len(set(values)) == len(values) <= 2:
        raise ValueError("none, too many, or repeated")
    return values


class OpponentsTable(Table):
    """[opponents]: whom trials meet, and who is met once by what came out."""

    validation: Annotated[tuple[Name, ...], at_least(1), AfterValidator(_each_once)] = Field(
        strict=False, description=NAMES
    )
    final: Annotated[tuple[Name, ...], AfterValidator(_each_once)] | None = Field(
        default=None, strict=False, description=NAMES
    )


class ObjectiveTable(Table):
    """[objective]: what is best."""

    of: Annotated[
        tuple[Annotated[TunedQuantity, Field(strict=False)], ...], AfterValidator(_two_at_most)
    ] = Field(
        default=(TunedQuantity.SCORE,),
        strict=False,
        description=f"a list of one or two of {', '.join(TunedQuantity)}",
    )
    seconds_per_100_images: float | None = Field(
        default=None, gt=0, description="seconds, more than 0"
    )


class TrialsTable(Table):
    """[trials]: how many, and how soon bad ones end."""

    count: int = Field(default=50, ge=1, description="an integer, at least 1")
    seed: int = Field(default=0, ge=0, description="an integer, at least 0")
    sampler: SamplerName = Field(
        default=SamplerName.TPE, strict=False, description=one_of(SamplerName)
    )
    pruner: PrunerName | None = Field(default=None, strict=False, description=one_of(PrunerName))
    images: int | None = Field(
        default=None, ge=1, description="an integer, at least 1 (left out: all images)"
    )
    first_images: int = Field(default=20, ge=1, description="an integer, at least 1")
    growth: int = Field(default=3, ge=2, le=10, description="an integer from 2 to 10")


class TuneFile(Table):
    """A whole file, checked; every path in it is absolute."""

    name: Name = Field(description=NAME_RULE)
    tournament: Located | None = Field(
        default=None, strict=False, description="the path of a tournament file"
    )
    entry: Name | None = Field(default=None, description="the name of one of its entries")
    settings: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="the path of a TOML file inside the entry"
    )
    recipe: Located | None = Field(
        default=None, strict=False, description="the path of a recipe of `advcomp train`"
    )
    train: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="the name of a classifier or denoiser of the recipe"
    )
    source: Located | None = Field(
        default=None, strict=False, description="the path of the recipe's dataset"
    )
    opponents: OpponentsTable | None = Field(
        default=None, description="the table [opponents] with the names of `validation`"
    )
    space: dict[str, Any] = Field(description="the table [space] of ranges and choices")
    objective: ObjectiveTable = Field(default=ObjectiveTable(), description="a table")
    trials: TrialsTable = Field(default=TrialsTable(), description="a table")
    storage: Annotated[str, Field(min_length=1)] = Field(
        default="journal", description='"journal", or the URL of a database such as sqlite:///x.db'
    )
    _path: Path = PrivateAttr()
    _dimensions: tuple[Dimension, ...] = PrivateAttr(default=())

    def model_post_init(self, context: Any, /) -> None:
        """Remembers the file, which the validation was given as its context."""
        self._path = context

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._path

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The space, one dimension a value."""
        return self._dimensions

    @property
    def pruner(self) -> PrunerName:
        """What the file says, or what goes with its objective."""
        alone = len(self.objective.of) == 1
        return self.trials.pruner or (PrunerName.HALVING if alone else PrunerName.NONE)

    def place(self, *key: str) -> str:
        """Where `key` stands, for a message."""
        return where(self.path, key)


def load_tune_file(path: Path) -> TuneFile:
    """Read and check a file, without looking at what its paths lead to.

    Raises:
        InvalidConfig: All that is wrong with it.
    """
    tune = read_toml(path, TuneFile)
    problems = [*_of_another_kind(tune), *_of_the_objective(tune)]
    try:
        tune._dimensions = dimensions(path, tune.space)
    except SpaceProblems as error:
        problems += error.problems
    if problems:
        raise InvalidConfig(*problems)
    return tune


def _of_another_kind(tune: TuneFile) -> Iterator[str]:
    """What goes with an entry and not with a recipe, or the other way round."""
    yield from _of_an_entry(tune) if tune.recipe is None else _of_a_recipe(tune)


def _of_an_entry(tune: TuneFile) -> Iterator[str]:
    needs: dict[str, object] = {
        "tournament": tune.tournament,
        "entry": tune.entry,
        "settings": tune.settings,
        "opponents": tune.opponents,
    }
    missing = [name for name, value in needs.items() if value is None]
    if len(missing) == len(needs):
        yield (
            f"{tune.path}: expected `tournament`, `entry`, `settings` and [opponents] to tune "
            "an entry, or `recipe` to tune a training; got neither"
        )
        return
    yield from (
        f"{tune.path}: {_key(name)}: missing; to tune an entry it takes "
        f"{TuneFile.model_fields[name].description}"
        for name in missing
    )
    yield from (
        f"{tune.place(name)}: goes only with a training (`recipe`); this file tunes an entry: "
        "take it out"
        for name, value in (("train", tune.train), ("source", tune.source))
        if value is not None
    )


def _of_a_recipe(tune: TuneFile) -> Iterator[str]:
    others = {"entry": tune.entry, "settings": tune.settings, "opponents": tune.opponents}
    yield from (
        f"{tune.place(name)}: goes only with an entry; this file tunes a training (`recipe`): "
        "take one of them out"
        for name, value in others.items()
        if value is not None
    )
    if TunedQuantity.SECONDS in tune.objective.of:
        yield (
            f"{tune.place('objective', 'of')}: a training is judged by what its recipe validates "
            f'it with, and not timed; got "{TunedQuantity.SECONDS}"'
        )
    if tune.objective.seconds_per_100_images is not None:
        yield (
            f"{tune.place('objective', 'seconds_per_100_images')}: goes only with an entry, whose "
            "runs are timed"
        )
    if tune.pruner is PrunerName.WILCOXON:
        yield (
            f"{tune.place('trials', 'pruner')}: wilcoxon compares images, which only an entry's "
            "trials tell; take halving or none"
        )


def _of_the_objective(tune: TuneFile) -> Iterator[str]:
    place = tune.place("trials", "pruner")
    if len(tune.objective.of) == 2 and tune.pruner is not PrunerName.NONE:
        yield (
            f"{place}: two objectives cannot be compared halfway: expected none; got {tune.pruner}"
        )
    elif tune.pruner is PrunerName.WILCOXON and tune.objective.of != (TunedQuantity.SCORE,):
        yield (
            f"{place}: wilcoxon compares the score image by image, and goes only with "
            f'of = ["score"]; got {shown_value(list(tune.objective.of))}'
        )
    if tune.opponents is not None and tune.opponents.final is not None:
        both = [name for name in tune.opponents.final if name in tune.opponents.validation]
        if both:
            yield (
                f"{tune.place('opponents', 'final')}: expected others than those of validation; "
                f"{', '.join(both)} would judge what was tuned on them"
            )


def _key(name: str) -> str:
    return f"[{name}]" if name == "opponents" else name
