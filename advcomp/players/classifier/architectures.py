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

_TORCHVISION, TIMM = "torchvision/", "timm/"
_CHANNELS = 3
TRANSFORMING = tuple(f"{_TORCHVISION}{name}" for name in ("googlenet", "inception_v3"))
"""Their published weights are ported and want images normalised by 0.5. With them torchvision
normalises as for all its networks, and the network undoes it (its own `transform_input`)."""


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
        transform_input: Whether the network itself turns ImageNet's normalisation into another:
            `TRANSFORMING` do with published weights.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    input_size: tuple[int, int] | None = None
    interpolation: Interpolation = Interpolation.BILINEAR
    transform_input: bool = False

    def changed(
        self,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        input_size: Sequence[int] | None = None,
        interpolation: str | None = None,
        transform_input: bool | None = None,
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
        if transform_input is not None and type(transform_input) is not bool:
            problems.append(f"transform_input: expected true or false; got {transform_input!r}")
        if problems:
            raise InvalidConfig(*problems)
        return replace(
            self,
            mean=tuple(mean or self.mean),
            std=tuple(std or self.std),
            input_size=(input_size[0], input_size[1]) if input_size else self.input_size,
            interpolation=Interpolation(interpolation or self.interpolation),
            transform_input=self.transform_input if transform_input is None else transform_input,
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
        and not (architecture.startswith(TIMM) and plain in _timm_names())
    ):
        raise _unknown(architecture)
    if architecture.startswith(TIMM) and architecture != plain:
        _require_tag(architecture, plain)


def _require_tag(architecture: str, plain: str) -> None:
    """Accept a TAG that timm has weights under."""
    import timm

    known = sorted(timm.list_models(f"{plain.removeprefix(TIMM)}.*", pretrained=True))
    if architecture.removeprefix(TIMM) not in known:
        listed = ", ".join(TIMM + name for name in known)
        raise InvalidConfig(
            f'architecture: expected {listed or "no tag behind the name"}; got "{architecture}"'
        )


def published_feed(architecture: str) -> Feed:
    """How a network's authors feed it; images (N, 3, H, W) in [0, 1] as they are for ours.

    The libraries' own preprocessing without its crop: a competition's images are crops already.

    Raises:
        InvalidConfig, MissingExtra: As `require_known` has them.
    """
    require_known(architecture)
    if architecture in NETWORKS:
        return Feed()
    name = architecture.partition("/")[2]
    return (_timm_feed if architecture.startswith(TIMM) else _torchvision_feed)(name)


def build(architecture: str, classes: int, feed: Feed) -> nn.Module:
    """A freshly initialised network of `published_feed`'s architectures.

    Args:
        architecture: Its name.
        classes: Number of classes.
        feed: What it will be fed with.

    Raises:
        InvalidConfig: It cannot be fed so, or has no classes.
    """
    if feed.transform_input and architecture not in TRANSFORMING:
        raise InvalidConfig(
            f"transform_input: expected false, but for {', '.join(TRANSFORMING)}; got true for "
            f"{architecture}"
        )
    if architecture in NETWORKS:
        return NETWORKS[architecture](classes)
    library, _, name = architecture.partition("/")
    if f"{library}/" == TIMM:
        import timm

        made: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
        if getattr(made, "num_classes", classes) != classes:
            raise InvalidConfig(
                f'architecture: expected a network that gives logits; "{architecture}" is an '
                "encoder, which gives features and has no classes; take one that classifies"
            )
        return made
    from torchvision import models

    options = _torchvision_options(architecture, feed)
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    return network


def _torchvision_options(architecture: str, feed: Feed) -> dict[str, object]:
    """What torchvision's builders of networks with published weights set by themselves."""
    if architecture in TRANSFORMING:
        # Auxiliary heads answer in training only.
        return {
            "aux_logits": False,
            "transform_input": feed.transform_input,
            "init_weights": True,
        }
    if architecture.startswith(f"{_TORCHVISION}vit_") and feed.input_size is not None:
        height, width = feed.input_size
        if height != width:
            raise InvalidConfig(
                f"input_size: expected a square for {architecture}; got {height}x{width}"
            )
        return {"image_size": height}
    return {}


def _torchvision_feed(name: str) -> Feed:
    from torchvision import models

    published = models.get_model_weights(name).DEFAULT.transforms()
    height, width = (published.crop_size * 2)[:2]
    return Feed(
        mean=tuple(published.mean),
        std=tuple(published.std),
        input_size=(height, width),
        interpolation=Interpolation(published.interpolation.value),
        transform_input=_TORCHVISION + name in TRANSFORMING,
    )


def _timm_feed(name: str) -> Feed:
    import timm

    published = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    _, height, width = published.input_size
    return Feed(
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
    return [TIMM + name for name in timm.list_models()]


def _unknown(architecture: str) -> InvalidConfig:
    """Looks for the nearest in the library that was named, or in all of them."""
    names = [*NETWORKS, *_torchvision_names(), *_timm_names()]
    library = next((each for each in (_TORCHVISION, TIMM) if architecture.startswith(each)), "")
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
