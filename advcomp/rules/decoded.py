"""What the decoder in a box answered, as arrays (`decode.py` is the program that answers)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advcomp.errors import SandboxError
from advcomp.rules.decode import VALID
from advcomp.rules.faults import Fault
from advcomp.rules.png import CHANNELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What the decoder said.

    Args:
        valid: bool (R,), one judgement for each of the first R files; file R killed the decoder,
            unless R is the number of files.
        faults: Why each of them is not valid; None where it is.
        pixels: uint8 (R, H, W, 3); meaningful where `valid`.
    """

    faults: tuple[Fault | None, ...]
    valid: NDArray[np.bool_]
    pixels: NDArray[np.uint8]


def read_answer(
    valid: bytes | None, pixels: bytes | None, *, count: int, height: int, width: int
) -> Decoded:
    """What the program answered for `count` files, from the two files it left.

    Raises:
        SandboxError: A file is missing or has the wrong length. The program gives both their
            length before it reads any image, so this is no image's doing.
    """
    size = count * height * width * CHANNELS
    if valid is None or pixels is None or (len(valid), len(pixels)) != (count, size):
        got = ["nothing" if part is None else f"{len(part):,} bytes" for part in (valid, pixels)]
        raise SandboxError(
            f"the image decoder must leave {count:,} judgements and {size:,} bytes of pixels; "
            f"got {got[0]} and {got[1]}"
        )
    faults = [Fault.of_code(code) for code in valid]
    judged = [
        code == VALID or fault is not None for code, fault in zip(valid, faults, strict=True)
    ]
    reached = count if all(judged) else judged.index(False)
    images = np.frombuffer(pixels, np.uint8).reshape(count, height, width, CHANNELS)
    return Decoded(
        faults=tuple(faults[:reached]),
        valid=np.frombuffer(valid, np.uint8)[:reached] == VALID,
        pixels=images[:reached],
    )
