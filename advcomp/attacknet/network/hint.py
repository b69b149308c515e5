"""The gradient hint: what a surrogate sees in an image, and where it would move.

One forward and one backward pass of one classifier (a robust one says most); the activations of
several layers, and the gradients of the cross-entropy by them, are extra inputs of the network's
decoder. Every image's activations and gradients are divided by their own mean absolute value, so
the hint is the same for a confident surrogate and for one in doubt.
"""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advcomp.attacknet.network.model import HintLayer
from advcomp.errors import InvalidConfig
from advcomp.players.attack.objectives import cross_entropy
from advcomp.players.classifiers import Classifier


class GradientHint(nn.Module):
    """Images (N, 3, H, W) to a hint (N, 2 channels, h, w) for each layer; no gradient flows back.

    Args:
        surrogate: Frozen.
        layers: Names of submodules whose outputs are (N, channels, h, w).

    Raises:
        InvalidConfig: The surrogate has no such layer.
    """

    def __init__(self, surrogate: Classifier, layers: Sequence[str]) -> None:
        super().__init__()
        self.surrogate = surrogate
        self.layers = tuple(layers)
        for name in layers:
            layer_of(surrogate, name)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> tuple[Tensor, ...]:
        """Of the cross-entropy at the surrogate's own answer, or at target labels (N,)."""
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            logits, activations = with_activations(
                self.surrogate, self.layers, x.detach().requires_grad_()
            )
            classes = logits.argmax(1) if targets is None else self.surrogate.to_classes(targets)
            loss = cross_entropy(logits, classes).sum()
            gradients = torch.autograd.grad(loss, activations)
        pairs = zip(activations, gradients, strict=True)
        return tuple(torch.cat([_scaled(a.detach()), _scaled(g)], 1) for a, g in pairs)

    def spec(self, size: tuple[int, int], strides: Sequence[int]) -> tuple[HintLayer, ...]:
        """What the network must know, from a trial on one grey image.

        Args:
            size: Height and width of the images.
            strides: Of the network's levels; a hint comes in where the resolution is nearest.

        Raises:
            InvalidConfig: A layer's output has no height and width.
        """
        like = next(self.surrogate.parameters())
        x = torch.full((1, 3, *size), 0.5, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            _, activations = with_activations(self.surrogate, self.layers, x)
        flat = [
            f"[hint] layers: {name}: expected an output (N, channels, height, width); "
            f"got {tuple(activation.shape)}; name another layer"
            for name, activation in zip(self.layers, activations, strict=True)
            if activation.dim() != 4
        ]
        if flat:
            raise InvalidConfig(*flat)
        return tuple(
            HintLayer(
                channels=2 * activation.shape[1],
                level=_nearest(size[-1] / activation.shape[-1], strides),
            )
            for activation in activations
        )


def with_activations(
    module: nn.Module, layers: Sequence[str], x: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """A module's output, and the outputs of its layers on the way, with their graph."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[name] = output

        return layer_of(module, name).register_forward_hook(hook)

    handles = [keep(name) for name in layers]
    try:
        output = module(x)
    finally:
        for handle in handles:
            handle.remove()
    return output, [seen[name] for name in layers]


def layer_of(module: nn.Module, name: str) -> nn.Module:
    """The submodule of that name.

    Raises:
        InvalidConfig: There is none; tells the nearest name.
    """
    layers: dict[str, nn.Module] = {
        known: layer for known, layer in module.named_modules() if known
    }
    if name not in layers:
        nearest = difflib.get_close_matches(name, layers, n=3, cutoff=0)
        raise InvalidConfig(
            f'layers: the classifier has none called "{name}"; the nearest are '
            f"{', '.join(nearest)}"
        )
    return layers[name]


def _scaled(values: Tensor) -> Tensor:
    size = values.abs().mean((1, 2, 3), keepdim=True)
    return values / size.clamp_min(torch.finfo(values.dtype).tiny)


def _nearest(stride: float, strides: Sequence[int]) -> int:
    return min(
        range(len(strides)),
        key=lambda level: max(stride / strides[level], strides[level] / stride),
    )
