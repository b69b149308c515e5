"""Networks by name: ours, torchvision's and timm's; nothing is ever downloaded.

Ours go by their plain name, the others as "torchvision/NAME" and "timm/NAME". With a network comes
how its authors feed it: a size, how images get there, mean and standard deviation of a channel.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from torch import nn

from advcomp.errors import InvalidConfig, MissingExtra
from advcomp.players.classifier.networks import NETWORKS

_TORCHVISION, _TIMM = "torchvision/", "timm/"
_CHANNELS = 3
_WITH_OWN_START = ("googlenet", "inception_v3")
"""Of torchvision: they warn where nobody says whether to start from drawn weights."""


class Interpolation(StrEnum):
    """How an image is resized; enlarged or, after a filter against aliasing, made smaller."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What a network is fed with.

    Args:
        mean, std: Of every channel, on the [0, 1] scale.
        input_size: Height and width that images are resized to; None takes them as they are.
        interpolation: How they are resized.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    input_size: tuple[int, int] | None = None
    interpolation: Interpolation = Interpolation.BILINEAR

    def changed(
        self,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        input_size: Sequence[int] | None = None,
        interpolation: str | None = None,
    ) -> Self:
        """The same with other values where they are given.

        Raises:
            InvalidConfig: They make no sense: all problems at once.
        """
        problems = []
        if mean is not None and not _are_numbers(mean, above=-math.inf):
            problems.append(f"mean: expected {_CHANNELS} numbers; got {mean}")
        if std is not None and not _are_numbers(std, above=0):
            problems.append(f"std: expected {_CHANNELS} numbers above 0; got {std}")
        if input_size is not None and not _is_size(input_size):
            problems.append(f"input_size: expected height and width in pixels; got {input_size}")
        if interpolation is not None and interpolation not in list(Interpolation):
            known = ", ".join(Interpolation)
            problems.append(f'interpolation: expected one of {known}; got "{interpolation}"')
        if problems:
            raise InvalidConfig(*problems)
        return replace(
            self,
            mean=tuple(mean or self.mean),
            std=tuple(std or self.std),
            input_size=(input_size[0], input_size[1]) if input_size else self.input_size,
            interpolation=Interpolation(interpolation or self.interpolation),
        )


def _are_numbers(values: object, *, above: float) -> bool:
    """Whether there is a finite number above `above` for every channel."""
    return (
        isinstance(values, Sequence)
        and len(values) == _CHANNELS
        and all(isinstance(each, int | float) and above < each < math.inf for each in values)
    )


def _is_size(values: object) -> bool:
    """Whether these are a height and a width in pixels."""
    return (
        isinstance(values, Sequence)
        and len(values) == 2
        and all(isinstance(each, int) and each >= 1 for each in values)
    )


def require_known(architecture: str) -> None:
    """Accept the names that `build` takes.

    Raises:
        InvalidConfig: No such architecture; names the nearest ones.
        MissingExtra: The library that would have it is not installed.
    """
    plain = architecture.partition(".")[0]  # timm's names may end in .TAG
    if (
        architecture not in NETWORKS
        and not (architecture.startswith(_TORCHVISION) and architecture in _torchvision_names())
        and not (architecture.startswith(_TIMM) and plain in _timm_names())
    ):
        raise _unknown(architecture)


def build(architecture: str, classes: int) -> tuple[nn.Module, Feed]:
    """A freshly initialised network, and how its authors feed it.

    Raises:
        InvalidConfig, MissingExtra: As `require_known` has them.
    """
    require_known(architecture)
    if architecture in NETWORKS:
        return NETWORKS[architecture](classes), Feed()
    library, _, name = architecture.partition("/")
    return (_from_timm if f"{library}/" == _TIMM else _from_torchvision)(name, classes)


def _from_torchvision(name: str, classes: int) -> tuple[nn.Module, Feed]:
    from torchvision import models

    options = {"init_weights": True} if name in _WITH_OWN_START else {}
    published = models.get_model_weights(name).DEFAULT.transforms()
    height, width = (published.crop_size * 2)[:2]
    return models.get_model(name, weights=None, num_classes=classes, **options), Feed(
        mean=tuple(published.mean),
        std=tuple(published.std),
        input_size=(height, width),
        interpolation=Interpolation(published.interpolation.value),
    )


def _from_timm(name: str, classes: int) -> tuple[nn.Module, Feed]:
    import timm

    published = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    _, height, width = published.input_size
    return timm.create_model(name, pretrained=False, num_classes=classes), Feed(
        mean=tuple(published.mean),
        std=tuple(published.std),
        input_size=(height, width),
        interpolation=Interpolation(published.interpolation),
    )


def _torchvision_names() -> Sequence[str]:
    from torchvision import models

    return [_TORCHVISION + name for name in models.list_models(module=models)]


def _timm_names() -> Sequence[str]:
    try:
        import timm
    except ImportError as error:
        raise MissingExtra(
            "timm is not installed; install it with: pip install 'advcomp[players]'"
        ) from error
    return [_TIMM + name for name in timm.list_models()]


def _unknown(architecture: str) -> InvalidConfig:
    """Looks for the nearest in the library that was named, or in all of them."""
    names = [*NETWORKS, *_torchvision_names(), *_timm_names()]
    library = next((each for each in (_TORCHVISION, _TIMM) if architecture.startswith(each)), "")
    called: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(library):
            called.setdefault(name.rpartition("/")[2], []).append(name)
    wanted = architecture.lower().rpartition("/")[2]
    matches = difflib.get_close_matches(wanted, called, n=3, cutoff=0)
    near = ", ".join(name for match in matches for name in called[match])
    return InvalidConfig(
        f"architecture must be one of ours ({', '.join(NETWORKS)}), torchvision/NAME or "
        f'timm/NAME; got "{architecture}", the nearest are {near}'
    )
