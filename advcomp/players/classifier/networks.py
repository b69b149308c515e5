"""Small image networks, from several families so that what fools one need not fool the next.

All take normalised images (N, 3, H, W) and give logits (N, classes). The first four are for the
digits (4 to 25 thousand weights), the others for CIFAR-10 (0.1 to 0.2 million). Those in
`BATCH_NORMALISED` keep batch statistics, which fold into their convolutions once trained; in the
others an image's logits never depend on its neighbours, also in training.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

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


def wide_conv_net(classes: int) -> nn.Module:
    """`conv_net`, wider and deeper; any input size."""
    return conv_net(classes, widths=(32, 64, 96, 96))


def vgg_net(classes: int, widths: tuple[int, ...] = (24, 48, 96, 112)) -> nn.Module:
    """Convolutions and pooling by turns (VGG, arXiv 1409.1556), batch-normalised."""
    blocks = [
        nn.Sequential(*_normalised(before, after), nn.ReLU(), nn.MaxPool2d(2))
        for before, after in pairwise(widths)
    ]
    stem = nn.Sequential(*_normalised(3, widths[0], stride=2), nn.ReLU())
    return nn.Sequential(stem, *blocks, _head(widths[-1], classes))


def res_net(classes: int, widths: tuple[int, ...] = (32, 64, 88)) -> nn.Module:
    """Residual blocks in their first order (ResNet, arXiv 1512.03385), batch-normalised."""
    blocks = [BasicBlock(before, after) for before, after in pairwise(widths)]
    stem = nn.Sequential(*_normalised(3, widths[0], stride=2), nn.ReLU())
    return nn.Sequential(stem, *blocks, _head(widths[-1], classes))


def mobile_net(classes: int, widths: tuple[int, ...] = (32, 48, 80)) -> nn.Module:
    """Inverted residual blocks (MobileNetV2, arXiv 1801.04381), batch-normalised."""
    blocks = [
        block
        for before, after in pairwise(widths)
        for block in (InvertedBlock(before, after, stride=2), InvertedBlock(after, after))
    ]
    last = 2 * widths[-1]
    return nn.Sequential(
        nn.Sequential(*_normalised(3, widths[0], stride=2), nn.ReLU()),
        *blocks,
        nn.Sequential(*_normalised(widths[-1], last, size=1), nn.ReLU()),
        _head(last, classes),
    )


def conv_mixer(classes: int, width: int = 128, depth: int = 5) -> nn.Module:
    """Patches, then depthwise and pointwise convolutions (arXiv 2201.09792), batch-normalised."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, width, 4, stride=4), nn.ReLU(), nn.BatchNorm2d(width)),
        *[MixingBlock(width) for _ in range(depth)],
        _head(width, classes),
    )


BATCH_NORMALISED: dict[str, Architecture] = {
    "vgg_net": vgg_net,
    "res_net": res_net,
    "mobile_net": mobile_net,
    "conv_mixer": conv_mixer,
}
"""Those whose batch norm makes the images of a training batch neighbours."""

NETWORKS: dict[str, Architecture] = {
    "conv_net": conv_net,
    "residual_net": residual_net,
    "separable_net": separable_net,
    "mlp_mixer": mlp_mixer,
    "wide_conv_net": wide_conv_net,
    **BATCH_NORMALISED,
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


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, then ReLU; halves the resolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_normalised(before, after, stride=2), nn.ReLU(), *_normalised(after, after)
        )
        self.shortcut = nn.Sequential(*_normalised(before, after, size=1, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / 2, W / 2)."""
        return functional.relu(self.shortcut(x) + self.residual(x))


class InvertedBlock(nn.Module):
    """Widens, convolves each channel by itself, narrows; beside a shortcut where shapes allow."""

    def __init__(self, before: int, after: int, stride: int = 1, expansion: int = 3) -> None:
        super().__init__()
        wide = expansion * before
        self.has_shortcut = before == after and stride == 1
        self.residual = nn.Sequential(
            *_normalised(before, wide, size=1),
            nn.ReLU(),
            *_normalised(wide, wide, stride=stride, groups=wide),
            nn.ReLU(),
            *_normalised(wide, after, size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / stride, W / stride)."""
        out: Tensor = self.residual(x)
        return x + out if self.has_shortcut else out


class MixingBlock(nn.Module):
    """A depthwise convolution beside a shortcut, then a pointwise one; batch-normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.ReLU(), nn.BatchNorm2d(width)
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        out: Tensor = self.pointwise(x + self.depthwise(x))
        return out


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


def _head(width: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _normalised(
    before: int, after: int, *, size: int = 3, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(
        before, after, size, stride, padding=size // 2, groups=groups, bias=False
    )
    return convolution, nn.BatchNorm2d(after)
