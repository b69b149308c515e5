"""Pixels as small PNG data URIs, and the perturbation between two images as a picture."""

import io
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

MOST_SIDE = 96
"""Pixels on the longer side of a picture in the report."""

_GREY = 127.5


def data_uri(image: Pixels, *, averaged: bool = True) -> str:
    """An image, uint8 (H, W, 3), as a compressed PNG in a data URI, scaled down where too large.

    Args:
        averaged: Whether scaling down takes the mean of the pixels that fall together. A
            perturbation's mean is grey: of it, one pixel each is kept.
    """
    picture = Image.fromarray(image, "RGB")
    longer = max(picture.size)
    if longer > MOST_SIDE:
        width, height = (max(1, side * MOST_SIDE // longer) for side in picture.size)
        method = Image.Resampling.BOX if averaged else Image.Resampling.NEAREST
        picture = picture.resize((width, height), method)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"


def perturbation(adversarial: Pixels, clean: Pixels, max_epsilon: int) -> Pixels:
    """The difference of two images, amplified so that the budget spans all levels around grey.

    Args:
        max_epsilon: The budget in pixel levels; grey is no change, black and white are all of it.
    """
    difference = adversarial.astype(np.int16) - clean.astype(np.int16)
    levels = np.rint(_GREY + difference * amplification(max_epsilon))
    picture: Pixels = np.clip(levels, 0, 255).astype(np.uint8)
    return picture


def amplification(max_epsilon: int) -> float:
    """By how much `perturbation` exaggerates."""
    return _GREY / max(1, max_epsilon)
