"""Small image networks, from four families so that what fools one need not fool the next.

All take normalised images (N, 3, H, W) and give logits (N, classes). None keeps batch statistics
(group or layer norm instead): an image's logits never depend on its neighbours, also in training.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

Architecture = Callable[[int], nn.Module]
"""Builds a freshly initialised network for a number of classes."""


def conv_net(classes: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """Plain convolutions with stride 2 and no pooling (arXiv 1412.6806); any input size."""
    blocks = [
        nn.Sequential(_conv(before, after, stride=2), nn.GroupNorm(4, after), nn.ReLU())
        for before, after in pairwise((3, *widths))
    ]
    return nn.Sequential(*blocks, _head(widths[-1], classes))


def residual_net(classes: int, widths: tuple[int, ...] = (16, 24, 36)) -> nn.Module:
    """Pre-activation residual blocks (He et al. 2016, arXiv 1603.05027); any input size."""
    blocks = [ResidualBlock(before, after) for before, after in pairwise((widths[0], *widths))]
    return nn.Sequential(
        _conv(3, widths[0], stride=2),
        *blocks,
        nn.GroupNorm(4, widths[-1]),
        nn.ReLU(),
        _head(widths[-1], classes),
    )


def separable_net(classes: int, width: int = 48, depth: int = 3) -> nn.Module:
    """Patches, then depthwise and pointwise convolutions (ConvMixer, arXiv 2201.09792)."""
    blocks = [SeparableBlock(width) for _ in range(depth)]
    return nn.Sequential(
        nn.Conv2d(3, width, 4, stride=4), nn.GELU(), *blocks, _head(width, classes)
    )


def mlp_mixer(classes: int, width: int = 48, depth: int = 2) -> nn.Module:
    """Perceptrons over patches and over channels (MLP-Mixer, arXiv 2105.01601); 32x32 only."""
    patches = (32 // 4) ** 2
    blocks = [MixerBlock(patches, width) for _ in range(depth)]
    return nn.Sequential(
        nn.Conv2d(3, width, 4, stride=4),
        nn.Flatten(2),
        *blocks,
        nn.GroupNorm(1, width),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


ARCHITECTURES: dict[str, Architecture] = {
    "conv_net": conv_net,
    "residual_net": residual_net,
    "separable_net": separable_net,
    "mlp_mixer": mlp_mixer,
}
"""By the name that a weights file carries."""


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; halves the resolution where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.residual = nn.Sequential(
            nn.GroupNorm(4, before),
            nn.ReLU(),
            _conv(before, after, stride),
            nn.GroupNorm(4, after),
            nn.ReLU(),
            _conv(after, after),
        )
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / stride, W / stride)."""
        out: Tensor = self.shortcut(x) + self.residual(x)
        return out


class SeparableBlock(nn.Module):
    """A depthwise convolution beside a shortcut, then a pointwise one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.GroupNorm(1, width)
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.GELU(), nn.GroupNorm(1, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        out: Tensor = self.pointwise(x + self.depthwise(x))
        return out


class MixerBlock(nn.Module):
    """Mixes (N, width, patches) over the patches, then over the channels."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.over_patches = nn.Sequential(
            nn.GroupNorm(1, width), nn.Linear(patches, patches), nn.GELU()
        )
        self.over_channels = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.Conv1d(width, 2 * width, 1),
            nn.GELU(),
            nn.Conv1d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, patches) to the same shape."""
        x = x + self.over_patches(x)
        out: Tensor = x + self.over_channels(x)
        return out


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


def _head(width: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
