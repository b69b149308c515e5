"""The library's defenses by name, and the small file that says which one to run and how.

```toml
defense = "median_filter"   # a key of DEFENSES
batch_size = 8              # images at once; where not given, what the box's memory is good for

[parameters]                # where they shall not be the defaults
size = 2
```
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from types import MappingProxyType
from typing import cast

from pydantic import Field
from torch import Tensor

from advcomp import plugins
from advcomp.errors import InvalidConfig
from advcomp.players.classifier.answers import Model, require_finite
from advcomp.players.defense.defense_call import defense
from advcomp.players.defense.smoothing import smoothed
from advcomp.players.defenses import (
    average_over,
    barrage,
    bit_depth,
    crop_and_rescale,
    jpeg,
    median_filter,
    random_resize_pad,
    total_variation,
    wavelet,
)
from advcomp.players.ensemble import Ensemble, Fusion, load_ensemble
from advcomp.rules.toml_fields import one_of
from advcomp.rules.toml_file import Table, read_toml
from advcomp.rules.toml_parameters import Value, kinds, parameter_problems, unknown_name

Defended = Callable[..., Tensor]
"""`defended(model, images, **parameters)`: scores (N, classes), whose largest is the answer."""

DEFENSE_FILE = "defense.toml"
CLASSIFIERS = "classifier*"


@defense
def plain(model: Model, images: Tensor) -> Tensor:
    """The model's own logits (N, classes): what any defense has to beat."""
    return model(images)


def behind(image_filter: Callable[..., Tensor]) -> Defended:
    """A model that sees filtered images; it takes the filter's parameters."""

    @wraps(image_filter)
    @defense
    def scores(model: Model, images: Tensor, /, **parameters: Value) -> Tensor:
        return model(image_filter(images, **parameters))

    return scores


@defense
def random_crops(
    model: Model, images: Tensor, *, draws: int = 30, share: float = 90 / 224
) -> Tensor:
    """An average over `crop_and_rescale`."""
    transform = partial(crop_and_rescale, share=share)
    return average_over(model, images, transform, draws=draws, salt="random_crops")


@defense
def random_barrage(model: Model, images: Tensor, *, draws: int = 30, count: int = 3) -> Tensor:
    """An average over `barrage`."""
    transform = partial(barrage, count=count)
    return average_over(model, images, transform, draws=draws, salt="random_barrage")


DEFENSES: Mapping[str, Defended] = MappingProxyType(
    {
        "plain": plain,
        "bit_depth": behind(bit_depth),
        "median_filter": behind(median_filter),
        "jpeg": behind(jpeg),
        "total_variation": behind(total_variation),
        "wavelet": behind(wavelet),
        "random_resize_pad": random_resize_pad,
        "random_crops": random_crops,
        "random_barrage": random_barrage,
        "smoothed": smoothed,
    }
)


def defense_named(name: str) -> Defended | None:
    """A defense of the library, or one that another package adds; None where there is none.

    Raises:
        InvalidConfig: It is another package's, and cannot be imported.
    """
    if name in DEFENSES:
        return DEFENSES[name]
    return cast(Defended | None, plugins.load(plugins.ExtensionGroup.DEFENSES, name))


class DefenseSettings(Table):
    """The content of `defense.toml`."""

    defense: str = Field(description=one_of(DEFENSES))
    batch_size: int | None = Field(
        default=None, ge=1, description="a number of images, at least 1"
    )
    parameters: dict[str, Value] = Field(default={}, description="a table of numbers and words")


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryDefense:
    """A defense of the library with its settings, around its classifiers."""

    defended: Defended
    classifiers: Ensemble
    batch_size: int | None = None

    def labels(self, images: Tensor) -> Tensor:
        """The labels (N,) of images (N, 3, H, W).

        Raises:
            ValueError: The classifiers, or the defense, answer with NaN.
        """
        scores = self.defended(self.classifiers, images)
        require_finite(scores)
        return self.classifiers.to_labels(scores.argmax(1))


def load_defense(folder: Path) -> LibraryDefense:
    """The defense that `defense.toml` in a folder names, around all `classifier*.safetensors`.

    Several classifiers answer with the mean of their probabilities.

    Raises:
        InvalidConfig: Lists all that is wrong.
    """
    path = folder / DEFENSE_FILE
    settings = read_toml(path, DefenseSettings)
    if problems := [*_problems(path, settings)]:
        raise InvalidConfig(*problems)
    defended = defense_named(settings.defense)
    assert defended is not None
    return LibraryDefense(
        defended=partial(defended, **settings.parameters),
        classifiers=load_ensemble(folder, {CLASSIFIERS: 1.0}, fusion=Fusion.PROBABILITIES),
        batch_size=settings.batch_size,
    )


def _problems(path: Path, settings: DefenseSettings) -> Iterator[str]:
    defended = defense_named(settings.defense)
    if defended is None:
        known_names = [*DEFENSES, *plugins.names(plugins.ExtensionGroup.DEFENSES, DEFENSES)]
        yield unknown_name(path, "defense", settings.defense, known_names)
        return
    known = parameters_of(defended)
    yield from parameter_problems(path, settings.defense, known, settings.parameters)


def parameters_of(defended: Defended) -> Mapping[str, object]:
    """The type of everything that a file may say about a defense."""
    return {
        name: p.annotation
        for name, p in inspect.signature(defended).parameters.items()
        if all(kind in kinds(Value) for kind in kinds(p.annotation))
    }
