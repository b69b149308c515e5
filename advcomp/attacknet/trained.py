"""What a checkpoint says of an attack network besides what every checkpoint says."""

import json

from pydantic import Field, ValidationError

from advcomp.attacknet.network.model import NetworkSpec
from advcomp.errors import InvalidConfig
from advcomp.players.attack.label_kind import LabelKind
from advcomp.rules.toml_file import Table
from advcomp.training.checkpoint import About


class TrainedNetwork(Table):
    """What it takes to play the network.

    Args:
        surrogate: The path of the hint's surrogate.
        gradient_surrogates: Those of the surrogates whose gradients it is told by the pixel.
        gradient_labels: What these lead away from.
        gradients_apart: Whether it is told them surrogate by surrogate.
        image_size: Height and width of the training images.
    """

    spec: NetworkSpec
    hint_mode: str
    hint_layers: tuple[str, ...] = Field(strict=False)
    surrogate: str | None
    gradient_surrogates: tuple[str, ...] = Field(default=(), strict=False)
    gradient_labels: LabelKind = Field(default=LabelKind.SOFT, strict=False)
    gradients_apart: bool = False
    image_size: tuple[int, int] = Field(strict=False)


def trained_network(about: About) -> TrainedNetwork:
    """What a checkpoint's network is.

    Raises:
        InvalidConfig: It is a checkpoint of something else.
    """
    try:
        return TrainedNetwork.model_validate_json(json.dumps(about.trained))
    except ValidationError as error:
        raise InvalidConfig("expected a checkpoint of an attack network") from error
