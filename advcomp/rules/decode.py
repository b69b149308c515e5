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
from pathlib import Path
from typing import BinaryIO

from advcomp.rules.faults import InvalidPng
from advcomp.rules.png import CHANNELS, decode_samples

NOT_REACHED, VALID = 0, 1
_LENGTH = struct.Struct("<Q")


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


def decode_files(images: Path, output: Path, height: int, width: int) -> None:
    """Decode every file packed in `images` into `output/valid` and `output/pixels`."""
    image_bytes = height * width * CHANNELS
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
                decoded = decode_samples(packed.read(length), height, width)
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
