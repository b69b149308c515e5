"""Pixel levels (uint8, N, H, W, 3) and float images (N, 3, H, W) in [0, 1]: there, back, clipped.

One `project` and one `quantise` serve every attack and every defense.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advcomp.rules.images import round_to_uint8

_ROUNDING = 1e-5
"""How far beyond [0, 1] arithmetic in float32 may carry an image that belongs there."""


def to_float(levels: NDArray[np.uint8]) -> Tensor:
    """Float32 images (N, 3, H, W) in [0, 1] from pixel levels (N, H, W, 3)."""
    return torch.tensor(levels).permute(0, 3, 1, 2).contiguous().float() / 255


def quantise(x: Tensor) -> NDArray[np.uint8]:
    """The nearest pixel levels (N, H, W, 3) to images (N, 3, H, W); rounds, never truncates.

    Raises:
        ValueError: `x` holds a NaN or an infinity.

    Example:
        >>> quantise(torch.full((1, 3, 1, 1), 0.5)).tolist()
        [[[[128, 128, 128]]]]
    """
    return round_to_uint8(x.detach().permute(0, 2, 3, 1).cpu().double().numpy())


def require_images(images: object) -> None:
    """Accept float images (N, C, H, W) in [0, 1].

    Raises:
        ValueError: They are something else, out of range beyond what rounding does, or NaN.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images: expected a tensor (N, C, H, W) in [0, 1]; got {type(images).__name__}"
        )
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"images: expected floats (N, C, H, W) in [0, 1]; got "
            f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}; of levels: "
            "levels.float() / 255"
        )
    if not images.numel():
        return
    low, high = torch.stack(images.detach().aminmax()).tolist()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(
            f"images: expected values in [0, 1] (pixel levels / 255), none of them NaN; got "
            f"{low:g} to {high:g}; a model normalises inside"
        )


def require_eps(eps: object) -> None:
    """Accept a budget on the [0, 1] scale.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(eps, int | float | np.number | Tensor) or not 0 <= eps <= 1:
        raise ValueError(f"expected eps on the [0, 1] scale (pixel levels / 255); got {eps!r}")


def ball(clean: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of every pixel within `eps` of `clean` and in [0, 1].

    Args:
        clean: Images (N, C, H, W).
        eps: Radius on the [0, 1] scale; pixel levels / 255.

    Raises:
        ValueError: `eps` is not on the [0, 1] scale.
    """
    require_eps(eps)
    clean = clean.detach()
    return (clean - eps).clamp_(0, 1), (clean + eps).clamp_(0, 1)


def project_to_ball(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Clip `x` to the L-inf ball of radius `eps` around `clean`, within [0, 1].

    Args:
        x, clean: Images (N, C, H, W), same shape.
        eps: Radius on the [0, 1] scale; pixel levels / 255.
    """
    return torch.clamp(x, *ball(clean, eps))
