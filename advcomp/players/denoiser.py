"""A denoiser that is guided by a classifier: 2017's first defense.

Liao et al. 2018, arXiv 1712.02976 (HGD): a U-Net predicts the negative of the perturbation; what
it leaves behind is judged by the classifier, not by the pixels, since a little noise that is left
grows on its way through the network.
"""

import json
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.weights import fill, read_weights
from advcomp.players.classifiers import Classifier

_GROUPS = 4


class Guide(StrEnum):
    """What of the classifier must not tell a denoised image from the clean one (section 3.3)."""

    FEATURES = "features"
    LOGITS = "logits"


class Denoiser(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to images without their perturbation (section 3.2; DUNET).

    Any size. It begins as the identity, and keeps no batch statistics: an image never depends on
    its neighbours.

    Args:
        widths: Channels at each resolution, from the full one, each half of the one before;
            multiples of 4.
    """

    def __init__(self, widths: Sequence[int] = (16, 24, 32)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        strides = [1] + [2] * (len(widths) - 1)
        self.down = nn.ModuleList(
            _block(before, after, stride)
            for (before, after), stride in zip(pairwise((3, *widths)), strides, strict=True)
        )
        self.up = nn.ModuleList(
            _block(before + after, after) for before, after in pairwise(reversed(widths))
        )
        self.negative_noise = nn.Conv2d(widths[0], 3, 1)
        for parameter in self.negative_noise.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The images plus the negative noise, clipped to [0, 1]."""
        laterals, inner = [], x
        for block in self.down:
            inner = block(inner)
            laterals.append(inner)
        for block, lateral in zip(self.up, reversed(laterals[:-1]), strict=True):
            enlarged = functional.interpolate(inner, lateral.shape[-2:], mode="nearest")
            inner = block(torch.cat([enlarged, lateral], 1))
        denoised: Tensor = x + self.negative_noise(inner)
        return denoised.clamp(0, 1)

    def save(self, path: Path) -> None:
        """Write what `load_denoiser` needs into one safetensors file."""
        tensors = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        path.write_bytes(save(tensors, {"denoiser_widths": json.dumps(self.widths)}))

    def freeze(self) -> Self:
        """Evaluation mode, and no parameter asks for a gradient."""
        return self.eval().requires_grad_(False)


def load_denoiser(path: str | Path) -> Denoiser:
    """The denoiser that `Denoiser.save` wrote, frozen and in evaluation mode.

    Raises:
        InvalidConfig: The file cannot be read, or was not written by `save`.
    """
    path = Path(path)
    tensors, metadata = read_weights(path)
    if "denoiser_widths" not in metadata:
        raise InvalidConfig(
            f"{path}: expected denoiser_widths in the file's metadata; got none; write weights "
            "with Denoiser.save"
        )
    denoiser = Denoiser(json.loads(metadata["denoiser_widths"]))
    fill(denoiser, tensors, path)
    return denoiser.freeze()


def guided_loss(
    denoiser: Denoiser, classifier: Classifier, clean: Tensor, seen: Tensor, guide: Guide
) -> Tensor:
    """How far the classifier tells denoised images from clean ones, (N,) (section 3.3; L1).

    The mean over the entries of its features or logits. No labels are needed.

    Args:
        denoiser: What is trained.
        classifier: What guides, frozen.
        clean: Images (N, 3, H, W) in [0, 1].
        seen: The same, attacked or not.
        guide: What is compared.
    """
    with torch.no_grad():
        expected = representation(classifier, clean, guide)
    difference = representation(classifier, denoiser(seen), guide) - expected
    return difference.abs().flatten(1).mean(1)


def representation(classifier: Classifier, images: Tensor, guide: Guide) -> Tensor:
    """The classifier's logits (N, classes), or what its last linear layer takes (N, features)."""
    if guide is Guide.LOGITS:
        return classifier(images)  # type: ignore[no-any-return]
    features: list[Tensor] = []
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    try:
        classifier(images)
    finally:
        hook.remove()
    return features[0]


def _block(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(_GROUPS, after), nn.ReLU()
    )
