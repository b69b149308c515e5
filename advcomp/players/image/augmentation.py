"""Images moved and mirrored, as training sees them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def moved(
    images: Tensor, most: int, shifts: Sequence[tuple[int, int]], mirrored: Sequence[bool]
) -> Tensor:
    """Every image moved by its own shift, edge pixels repeated where it has been, then mirrored.

    Args:
        images: (N, C, H, W), on the CPU.
        most: Pixels by which an image may move, each way.
        shifts: Of each image, down and right, 0..2 `most`; (most, most) leaves it in its place.
        mirrored: Of each, whether left and right change places.
    """
    if not len(images):
        return images
    height, width = images.shape[-2:]
    # As arrays, of which views cost a tenth.
    padded = functional.pad(images, (most,) * 4, mode="replicate").numpy()
    seen = [
        image[:, down : down + height, right : right + width]
        for image, (down, right) in zip(padded, shifts, strict=True)
    ]
    turned = [
        image[..., ::-1] if mirror else image for image, mirror in zip(seen, mirrored, strict=True)
    ]
    return torch.from_numpy(np.stack(turned))
