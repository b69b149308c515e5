"""What the programs of hostile entries share: a copy stands beside each of them, inside its box.

The standard library only, so that an entry starts in a few hundredths of a second. The writer of
PNGs knows no rules: it can make what no library would.
"""

import struct
import sys
import zlib
from pathlib import Path

IN = Path(sys.argv[1])
OUT = Path(sys.argv[2])
EPS = int(sys.argv[3]) if len(sys.argv) > 3 else 0
NAMES = sorted(path.name for path in IN.glob("*.png"))
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
         (1, 0, 2, 1))  # fmt: skip


def size() -> tuple[int, int]:
    """Width and height of the images."""
    width, height = struct.unpack(">II", (IN / NAMES[0]).read_bytes()[16:24])
    return width, height


def samples(name: str) -> bytes:
    """Red, green and blue of every pixel of an input image, which has one IDAT and no filters."""
    data = (IN / name).read_bytes()
    rows = zlib.decompress(data[41:-16])
    width, height = size()
    stride = 1 + 3 * width
    return b"".join(rows[y * stride + 1 : (y + 1) * stride] for y in range(height))


def chunk(kind: bytes, content: bytes = b"", *, crc: int = 0) -> bytes:
    """A chunk; `crc` is what its checksum is wrong by."""
    checksum = zlib.crc32(kind + content) ^ crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """Signature and IHDR."""
    fields = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", fields)


def rows(content: bytes, width: int, height: int, filter_type: int = 0) -> bytes:
    """Samples as scan lines, each behind its filter byte."""
    stride = len(content) // height
    lines = (content[y * stride : (y + 1) * stride] for y in range(height))
    return b"".join(bytes([filter_type]) + line for line in lines)


def png(content: bytes, *, before: bytes = b"", after: bytes = b"", end: bytes = b"") -> bytes:
    """An RGB image with chunks before and after its pixels, and bytes after its end."""
    data = chunk(b"IDAT", zlib.compress(rows(content, *size())))
    return header(*size()) + before + data + after + chunk(b"IEND") + end


def raw_png(head: bytes, scan_lines: bytes) -> bytes:
    """Any header with any pixel data."""
    return head + chunk(b"IDAT", zlib.compress(scan_lines)) + chunk(b"IEND")


def interlaced(content: bytes) -> bytes:
    """An RGB image in the seven passes of Adam7."""
    width, height = size()
    lines = []
    for first_y, first_x, step_y, step_x in ADAM7:
        for y in range(first_y, height, step_y):
            pixels = [(y * width + x) * 3 for x in range(first_x, width, step_x)]
            if pixels:
                lines.append(b"\0" + b"".join(content[at : at + 3] for at in pixels))
    return raw_png(header(width, height, interlace=1), b"".join(lines))


def write(name: str, content: bytes) -> None:
    """Write an output."""
    (OUT / name).write_bytes(content)


def copy(names: list[str]) -> None:
    """Write these images as they came: an honest answer."""
    for name in names:
        write(name, (IN / name).read_bytes())


def answer(label: object = 3, names: list[str] = NAMES) -> str:
    """A result.csv with one label for all."""
    return "".join(f"{name},{label}\n" for name in names)
