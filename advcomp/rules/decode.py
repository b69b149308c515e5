"""Decode strangers' PNGs inside a sandbox.

    python -m advcomp.rules.decode IMAGES OUTPUT HEIGHT WIDTH

The referee never decodes what a submission wrote; it packs the files into one (`pack_blobs`), runs
this program in a box, and reads back an array of the exact expected length (`read_answer`).

IMAGES holds, for each file, 8 bytes of length (little-endian) and the file's bytes. The program
sizes its two outputs first, all zeros, and then goes file by file: pixels before the judgement,
so that what `valid` calls valid is always complete.

    OUTPUT/valid    one byte per file: 0 not reached, 1 valid, else the code of a `Fault`
    OUTPUT/pixels   one uint8 (HEIGHT, WIDTH, 3) array per file, zeros where it is invalid

Should a file kill the decoder, everything before that file is on record: the referee calls it
invalid and starts again with those after it.
"""

import os
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from advcomp.errors import SandboxError
from advcomp.rules.faults import Fault, InvalidPng
from advcomp.rules.images import decode_png

NOT_REACHED, VALID = 0, 1
_LENGTH = struct.Struct("<Q")
_CHANNELS = 3


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


def pack_blobs(blobs: Iterable[bytes], file: BinaryIO) -> int:
    """Write `blobs` one after another, each behind its length; returns how many there were."""
    count = 0
    for count, blob in enumerate(blobs, start=1):  # noqa: B007
        file.write(_LENGTH.pack(len(blob)))
        file.write(blob)
    return count


def find_blobs(file: BinaryIO) -> list[tuple[int, int]]:
    """Offset and length of each blob in what `pack_blobs` wrote.

    Raises:
        ValueError: The file ends within a blob.
    """
    end = file.seek(0, os.SEEK_END)
    blobs: list[tuple[int, int]] = []
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else end
        at += _LENGTH.size + length
        if at > end:
            raise ValueError(f"blob {len(blobs)} is truncated")
        blobs.append((at - length, length))
    return blobs


def read_answer(
    valid: bytes | None, pixels: bytes | None, *, count: int, height: int, width: int
) -> Decoded:
    """What the program answered for `count` files, from the two files it left.

    Raises:
        SandboxError: A file is missing or has the wrong length. The program gives both their
            length before it reads any image, so this is no image's doing.
    """
    size = count * height * width * _CHANNELS
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
    images = np.frombuffer(pixels, np.uint8).reshape(count, height, width, _CHANNELS)
    return Decoded(
        faults=tuple(faults[:reached]),
        valid=np.frombuffer(valid, np.uint8)[:reached] == VALID,
        pixels=images[:reached],
    )


def decode_files(images: Path, output: Path, height: int, width: int) -> None:
    """Decode every file packed in `images` into `output/valid` and `output/pixels`."""
    image_bytes = height * width * _CHANNELS
    with (
        images.open("rb") as packed,
        (output / "pixels").open("wb") as pixels,
        (output / "valid").open("wb") as valid,
    ):
        blobs = find_blobs(packed)
        _reserve(pixels, len(blobs) * image_bytes)
        _reserve(valid, len(blobs))
        for i, (at, length) in enumerate(blobs):
            packed.seek(at)
            judgement = VALID
            try:
                decoded = decode_png(packed.read(length), height, width).tobytes()
            except InvalidPng as error:
                judgement = error.reason.fault.code
            else:
                pixels.seek(i * image_bytes)
                pixels.write(decoded)
                pixels.flush()
            valid.write(bytes([judgement]))
            valid.flush()


def _reserve(file: BinaryIO, size: int) -> None:
    """Fill `file` with zeros, so that a lack of room shows before any image is judged."""
    if size:
        os.posix_fallocate(file.fileno(), 0, size)


if __name__ == "__main__":
    decode_files(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
