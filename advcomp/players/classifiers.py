"""A classifier in one file: network, normalisation, size, label offset; never a pickle."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.answers import logits_of
from advcomp.players.classifier.architectures import (
    TRANSFORMING,
    Interpolation,
    build,
    published_feed,
)
from advcomp.players.classifier.authors_names import in_timms_names
from advcomp.players.classifier.folding import fold_batch_norm
from advcomp.players.classifier.weights import fill, read_weights

_REQUIRED = ("architecture", "classes", "label_offset")
_FEED = ("mean", "std", "input_size", "interpolation", "transform_input")
_ANY_SIZE = (32, 32)
"""Of the image that a network is shown while it is folded, where it takes any size."""


class Classifier(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to logits (N, classes).

    Example:
        >>> classifier = Classifier("conv_net", classes=10).freeze()
        >>> classifier(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Resizes and normalises inside, and is the only one who knows how its classes are called
    outside: class c has the label `c + label_offset`.

    Args:
        architecture: One of ours by its plain name (`networks.ARCHITECTURES`), "torchvision/NAME"
            or "timm/NAME"; freshly initialised, never downloaded.
        classes: Number of classes.
        label_offset: Label of class 0 (2017's datasets count from 1).
        mean, std: Of every channel, on the [0, 1] scale. Where not given, what the network's
            authors published; 0.5 for ours.
        input_size: Height and width that images of any other size are resized to; as published
            where not given. Ours take images as they are.
        interpolation: How they are resized; as published, bilinear for ours. All but "nearest"
            filter against aliasing, and all have a gradient.
        transform_input: Whether torchvision's GoogLeNet or Inception v3 turns ImageNet's `mean`
            and `std` into 0.5 inside, as with published weights; false for weights that began
            with none.

    Raises:
        InvalidConfig: No such architecture, or values that make no sense: all problems at once.
        MissingExtra: The architecture's library is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        classes: int,
        *,
        label_offset: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        input_size: Sequence[int] | None = None,
        interpolation: Interpolation | str | None = None,
        transform_input: bool | None = None,
    ) -> None:
        super().__init__()
        _require_sense(architecture, classes, label_offset)
        self.architecture = architecture
        self.classes = classes
        self.label_offset = label_offset
        self.feed = published_feed(architecture).changed(
            mean=mean,
            std=std,
            input_size=input_size,
            interpolation=interpolation,
            transform_input=transform_input,
        )
        self.network = build(architecture, classes, self.feed)
        self.folded = False
        for name, values in (("mean", self.feed.mean), ("std", self.feed.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W) in [0, 1]."""
        answer = self.network((self._resized(x) - self.mean) / self.std)
        return answer if isinstance(answer, Tensor) else logits_of(answer, len(x))

    def _resized(self, x: Tensor) -> Tensor:
        size, mode = self.feed.input_size, self.feed.interpolation
        if size is None or x.shape[-2:] == size:
            return x
        if mode is Interpolation.NEAREST:
            return functional.interpolate(x, size, mode=mode)
        return functional.interpolate(x, size, mode=mode, align_corners=False, antialias=True)

    def to_labels(self, classes: Tensor) -> Tensor:
        """The labels of classes (N,)."""
        return classes + self.label_offset

    def to_classes(self, labels: Tensor) -> Tensor:
        """The classes of labels (N,)."""
        return labels - self.label_offset

    def save(self, path: Path, dtype: torch.dtype | None = None) -> None:
        """Write weights and what `load_classifier` needs to know into one safetensors file.

        Args:
            path: The file.
            dtype: What weights are rounded to, such as float16; not at all where not given.

        Raises:
            ValueError: Batch norm was folded: the layers are no longer the architecture's.
        """
        if self.folded:
            raise ValueError(
                "expected a classifier whose batch norm is not folded; got a folded one, such as "
                "the members of load_ensemble; save it before, or load it again with "
                "load_classifier(path), and save that"
            )
        stated = {key: getattr(self, key) for key in _REQUIRED} | asdict(self.feed)
        tensors = {
            f"network.{name}": (value.to(dtype) if value.is_floating_point() else value)
            .cpu()
            .contiguous()
            .clone()  # safetensors refuses what a network has under two names
            for name, value in self.network.state_dict().items()
        }
        path.write_bytes(save(tensors, {key: json.dumps(each) for key, each in stated.items()}))

    def freeze(self) -> Self:
        """Evaluation mode, and no parameter asks for a gradient."""
        return self.eval().requires_grad_(False)

    def fold(self) -> Self:
        """Batch norm folded into the layers before it: the same logits to float tolerance, sooner.

        For good, and in evaluation mode only.
        """
        parameter, names = next(self.network.parameters()), self.network.state_dict().keys()
        fold_batch_norm(
            self.network, parameter.new_zeros(1, 3, *(self.feed.input_size or _ANY_SIZE))
        )
        self.folded |= self.network.state_dict().keys() != names
        return self


def _require_sense(architecture: object, classes: object, label_offset: object) -> None:
    """Refuse values of other kinds, which a file may state: all problems at once."""
    problems = []
    if not isinstance(architecture, str):
        problems.append(f"architecture: expected a name; got {architecture!r}")
    if type(classes) is not int or classes < 1:
        problems.append(f"classes: expected an integer, at least 1; got {classes!r}")
    if type(label_offset) is not int:
        problems.append(f"label_offset: expected an integer; got {label_offset!r}")
    if problems:
        raise InvalidConfig(*problems)


def load_classifier(
    path: str | Path,
    *,
    architecture: str | None = None,
    classes: int | None = None,
    label_offset: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: Sequence[int] | None = None,
    interpolation: Interpolation | str | None = None,
    transform_input: bool | None = None,
    fold: bool = False,
    channels_last: bool = False,
) -> Classifier:
    """The classifier of a file of weights, frozen and in evaluation mode.

    A file that `Classifier.save` wrote says all about itself. Any other, safetensors or PyTorch's
    own (a `state_dict` of tensors: no pickled code is run), needs `architecture` and `classes`;
    the rest is as its architecture's authors published it, and `label_offset` 0. Of timm's
    networks the names may be those of the authors' files, wherever timm takes these.

    Args:
        path: The file.
        architecture, classes, label_offset, mean, std, input_size, interpolation, transform_input:
            As `Classifier` has them; each wins over what the file says.
        fold: Fold batch norm into the layers before it.
        channels_last: Keep weights, and so images, in the layout that is faster for convolutions.

    Raises:
        InvalidConfig: The file cannot be read, does not say what it is, or does not fit the
            architecture; lists all that is missing, too much or of another shape.
        MissingExtra: The architecture's library is not installed.
    """
    path = Path(path)
    tensors, metadata = read_weights(path)
    given = {
        "architecture": architecture,
        "classes": classes,
        "label_offset": label_offset,
        "mean": mean,
        "std": std,
        "input_size": input_size,
        "interpolation": interpolation,
        "transform_input": transform_input,
    }
    stated = _stated(path, metadata) | {k: v for k, v in given.items() if v is not None}
    if architecture is not None:
        stated.setdefault("label_offset", 0)
    if missing := [key for key in _REQUIRED if key not in stated]:
        raise InvalidConfig(_unsaid(path, missing))
    classifier = _built(path, stated)
    _fill(classifier, tensors, path, metadata)
    classifier.freeze()
    if fold:
        classifier.fold()
    if channels_last:
        classifier.network.to(memory_format=torch.channels_last)
    return classifier


def _fill(
    classifier: Classifier, tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]
) -> None:
    """By the network's own names or, where they do not fit, by its authors'."""
    network, classes = classifier.network, classifier.classes
    try:
        fill(network, tensors, path, classes, metadata)
    except InvalidConfig:
        renamed = in_timms_names(classifier.architecture, network, tensors)
        if renamed is None:
            raise
        # What does not fit by other names either is told by those of the file.
        with suppress(InvalidConfig):
            return fill(network, renamed, path, classes, metadata)
        raise


def _unsaid(path: Path, missing: Sequence[str]) -> str:
    given = ", ".join(f"{key}=..." for key in missing)
    return (
        f"{path}: expected to be told {', '.join(missing)}, by the file or by the call; got "
        f"neither; say load_classifier(path, {given}), or write the file with Classifier.save, "
        "which keeps it"
    )


def _stated(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """What a file says about its classifier."""
    try:
        stated = {k: json.loads(metadata[k]) for k in (*_REQUIRED, *_FEED) if k in metadata}
    except ValueError as error:
        raise InvalidConfig(f"{path}: expected JSON in the file's metadata: {error}") from error
    if stated.get("architecture") in TRANSFORMING:
        # Advcomp did not state it before it could be true.
        stated.setdefault("transform_input", False)
    return stated


def _built(path: Path, stated: dict[str, Any]) -> Classifier:
    try:
        return Classifier(**stated)
    except InvalidConfig as error:
        raise InvalidConfig(*(f"{path}: {problem}" for problem in error.problems)) from error
