"""A classifier in one file: network, normalisation, label offset; safetensors, never a pickle."""

import json
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.networks import ARCHITECTURES

_METADATA_KEYS = ("architecture", "classes", "label_offset")


class Classifier(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes).

    Normalises inside, and is the only one who knows how its classes are called outside: class c
    has the label `c + label_offset`.

    Args:
        architecture: A key of `networks.ARCHITECTURES`.
        classes: Number of classes.
        label_offset: Label of class 0 (2017's datasets count from 1).
        mean, std: Of every channel, on the [0, 1] scale.

    Raises:
        InvalidConfig: No such architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        classes: int,
        *,
        label_offset: int = 0,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise InvalidConfig(f'architecture must be one of {known}; got "{architecture}"')
        self.architecture = architecture
        self.classes = classes
        self.label_offset = label_offset
        self.network = ARCHITECTURES[architecture](classes)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits

    def to_labels(self, classes: Tensor) -> Tensor:
        """The labels of classes (N,)."""
        return classes + self.label_offset

    def to_classes(self, labels: Tensor) -> Tensor:
        """The classes of labels (N,)."""
        return labels - self.label_offset

    def save(self, path: Path) -> None:
        """Write weights and what `load_classifier` needs to know into one safetensors file."""
        metadata = {key: json.dumps(getattr(self, key)) for key in _METADATA_KEYS}
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        path.write_bytes(save(tensors, metadata))

    def freeze(self) -> Self:
        """Evaluation mode, and no parameter asks for a gradient."""
        return self.eval().requires_grad_(False)


def load_classifier(path: str | Path) -> Classifier:
    """The classifier that `Classifier.save` wrote, frozen and in evaluation mode.

    Raises:
        InvalidConfig: The file is missing, is no safetensors file, or was not written by `save`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InvalidConfig(f"{path}: expected a readable safetensors file: {error}") from error
    if missing := [key for key in _METADATA_KEYS if key not in metadata]:
        raise InvalidConfig(
            f"{path}: expected {', '.join(_METADATA_KEYS)} in the file's metadata; "
            f"{', '.join(missing)} missing; write weights with Classifier.save"
        )
    classifier = Classifier(**{key: json.loads(metadata[key]) for key in _METADATA_KEYS})
    try:
        classifier.load_state_dict(tensors)
    except RuntimeError as error:
        raise InvalidConfig(f"{path}: {error}") from error
    return classifier.freeze()
