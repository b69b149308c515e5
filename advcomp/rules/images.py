"""Pixel arrays: the one place that makes them of PNG files, and files of them, and rounds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.png import CHANNELS, decode_samples, encode_samples

Pixels = NDArray[np.uint8]
"""An image: uint8 (H, W, 3), red, green, blue."""


def round_to_uint8(x: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """The nearest pixel levels to `x` on the [0, 1] scale; beyond it, 0 or 255.

    Raises:
        ValueError: `x` holds a NaN or an infinity.
    """
    if not np.isfinite(x).all():
        raise ValueError("expected finite pixel values on the [0, 1] scale, got NaN or infinity")
    return np.clip(np.rint(x.astype(np.float64) * 255), 0, 255).astype(np.uint8)


def encode_png(image: Pixels) -> bytes:
    """The canonical PNG of `image`, whose size says only H and W; the same on every machine.

    Raises:
        ValueError: `image` is not uint8 (H, W, 3).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != CHANNELS:
        raise ValueError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    height, width, _ = image.shape
    return encode_samples(image.tobytes(), height, width)


def decode_png(data: bytes, height: int, width: int) -> Pixels:
    """The samples of an 8-bit RGB PNG, uint8 (height, width, 3), as `decode_samples` reads them.

    Raises:
        InvalidPng: Anything but such an image, whole and with right checksums.
    """
    samples = bytearray(decode_samples(data, height, width))
    return np.frombuffer(samples, np.uint8).reshape(height, width, CHANNELS)
