"""Strict PNG, without an array: bytes of a file in, bytes of its samples out.

Decoding is bounded, in this order: the header alone says whether the file can be what the contract
asks for; the chunks are walked and their checksums compared; only IHDR and IDAT are kept, so no
ancillary chunk (gamma, ICC, tRNS, text, EXIF, APNG frames) reaches a decoder; the pixel data is
inflated to exactly the length that the header promises and not one byte more; and only then Pillow
undoes the filters, where there are any. Nothing depends on Pillow's global switches. A box that
decodes for the referee imports this alone, and so starts in half the time that NumPy would take.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, pairwise

from advcomp.rules.faults import Fault, InvalidPng

CHANNELS = 3
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR = struct.Struct(">IIBBBBB")
_HEADER_END = len(_SIGNATURE) + 8 + _IHDR.size + 4
_BIT_DEPTH, _COLOUR_TYPE = 8, 2
_MOST_PIXELS = 1 << 26
"""8192 x 8192. Beyond 89 million Pillow warns, which no thread can catch for itself."""
_MOST_CHUNKS = 10_000
"""Ample for any encoder; walking through millions of empty ones would take the decoder's time."""
_STORED_BLOCK = 65_535
_LAST_FILTER = 4
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
          (1, 0, 2, 1))  # fmt: skip
"""First row, first column, row step and column step of the passes of an interlaced image."""

_COLOURS = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGBA"}
_FORMATS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"RIFF", "WebP"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK", "a zip or .npz"),
    (b"P6", "PPM"),
    (b"P5", "PGM"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"qoif", "QOI"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"/annex/objects/", "a git-annex pointer"),
    (b"<", "a text such as HTML or SVG"),
)
"""How files begin that are taken for PNGs."""

_REMEDIES = {
    "a Git LFS pointer": "git lfs pull",
    "a git-annex pointer": "git annex get",
    "an empty file": "get or write it again",
    "a text such as HTML or SVG": "get the image itself",
}
"""What to do where saving as PNG would not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    height: int
    width: int
    interlaced: bool


def max_png_bytes(height: int, width: int) -> int:
    """The largest file that is read as an image of this size: ample, yet bounded."""
    return 2 * height * (1 + width * CHANNELS) + (8 << 20)


def read_size(data: bytes) -> tuple[int, int]:
    """(height, width) that the header of an 8-bit RGB PNG promises.

    Raises:
        InvalidPng: `data` does not begin like one.
    """
    header = _read_header(data)
    return header.height, header.width


def check_header(data: bytes, height: int, width: int) -> None:
    """Accept what begins like an 8-bit RGB PNG of exactly this size; decodes nothing.

    Raises:
        InvalidPng: It does not, or it is larger than `max_png_bytes`.
    """
    _expect_header(data, height, width)


def decode_samples(data: bytes, height: int, width: int) -> bytes:
    """The samples of an 8-bit RGB PNG, height * width * 3 bytes, as stored: nothing is converted.

    Ancillary chunks, APNG frames and bytes after IEND are dropped. Takes memory and time in
    proportion to `data` and to the size, whatever `data` unpacks to.

    Raises:
        InvalidPng: Anything but such an image, whole and with right checksums.
    """
    header = _expect_header(data, height, width)
    packed = b"".join(_pixel_data(data))
    scanlines = _scanlines(packed, header)
    stride = 1 + width * CHANNELS
    if header.interlaced or any(scanlines[::stride]):
        return _unfilter(_assemble(data[16:29], packed), header)
    return b"".join(scanlines[at + 1 : at + stride] for at in range(0, height * stride, stride))


def encode_samples(samples: bytes, height: int, width: int) -> bytes:
    """The canonical PNG of height * width * 3 bytes: no filters, stored blocks.

    Written here rather than by a library, so that the bytes are the same on every machine.
    """
    stride = width * CHANNELS
    rows = (samples[at : at + stride] for at in range(0, height * stride, stride))
    header = _IHDR.pack(width, height, _BIT_DEPTH, _COLOUR_TYPE, 0, 0, 0)
    return _assemble(header, _store(b"".join(b"\0" + row for row in rows)))


def _expect_header(data: bytes, height: int, width: int) -> _Header:
    if len(data) > max_png_bytes(height, width):
        raise InvalidPng(
            Fault.TOO_LARGE,
            f"expected at most {max_png_bytes(height, width):,} bytes for {width}x{height}, "
            f"got {len(data):,}",
        )
    header = _read_header(data)
    if (header.height, header.width) != (height, width):
        raise InvalidPng(
            Fault.SIZE,
            f"expected width x height {width}x{height}, got {header.width}x{header.height}; "
            "images are never resized",
            f"{header.width}x{header.height}",
        )
    return header


def _read_header(data: bytes) -> _Header:
    if not data.startswith(_SIGNATURE):
        got = _format_of(data)
        remedy = _REMEDIES.get(got, "save it as 8-bit RGB PNG")
        raise InvalidPng(Fault.FORMAT, f"expected a PNG, got {got}: {remedy}", got)
    if len(data) < _HEADER_END or data[8:16] != struct.pack(">I", _IHDR.size) + b"IHDR":
        raise InvalidPng(Fault.HEADER, "expected a PNG whose first chunk is a whole IHDR")
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:_HEADER_END]):
        raise InvalidPng(Fault.HEADER, "the checksum of the PNG's header is wrong")
    width, height, depth, colour, compression, filters, interlace = _IHDR.unpack(data[16:29])
    if (depth, colour) != (_BIT_DEPTH, _COLOUR_TYPE):
        got = f"{depth}-bit {_COLOURS.get(colour, f'of colour type {colour}')}"
        raise InvalidPng(
            Fault.COLOUR,
            f"expected an 8-bit RGB PNG (bit depth 8, colour type 2), got {got}; save it as "
            "8-bit RGB without alpha",
            got,
        )
    if compression or filters or interlace > 1:
        raise InvalidPng(
            Fault.HEADER, "the PNG's header names an unknown compression, filter or interlacing"
        )
    if not 0 < height * width <= _MOST_PIXELS:
        raise InvalidPng(
            Fault.SIZE,
            f"expected 1 to {_MOST_PIXELS:,} pixels, got {width}x{height}",
            f"{width}x{height}",
        )
    return _Header(height=height, width=width, interlaced=bool(interlace))


def _format_of(data: bytes) -> str:
    """What a file that is no PNG begins like, in a word of ours."""
    if not data:
        return "an empty file"
    if data[4:8] == b"ftyp":
        return "HEIC or AVIF"
    return next((name for start, name in _FORMATS if data.startswith(start)), "something else")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk after IHDR up to IEND, checksums compared."""
    at = _HEADER_END
    for _ in range(_MOST_CHUNKS):
        length = int.from_bytes(data[at : at + 4])
        end = at + 12 + length
        if end > len(data):
            raise InvalidPng(Fault.TRUNCATED, "the PNG is truncated")
        kind = data[at + 4 : at + 8]
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise InvalidPng(Fault.CHECKSUM, f"the checksum of the PNG's chunk {kind!r} is wrong")
        if kind == b"IEND":
            return
        yield kind, data[at + 8 : end - 4]
        at = end
    raise InvalidPng(
        Fault.CHUNKS, f"expected at most {_MOST_CHUNKS:,} chunks in the PNG, got more"
    )


def _pixel_data(data: bytes) -> Iterator[bytes]:
    """The contents of the IDAT chunks, which must stand together."""
    previous = b"IHDR"
    found = False
    for kind, content in _chunks(data):
        if kind == b"IDAT":
            if found and previous != b"IDAT":
                raise InvalidPng(Fault.CHUNKS, "the PNG's IDAT chunks do not stand together")
            found = True
            yield content
        elif kind != b"PLTE" and not kind[0] & 0x20:
            raise InvalidPng(
                Fault.CHUNKS, f"the PNG has the critical chunk {kind!r}, which has no place here"
            )
        previous = kind
    if not found:
        raise InvalidPng(Fault.CHUNKS, "the PNG has no pixel data (no IDAT chunk)")


def _scanlines(packed: bytes, header: _Header) -> bytes:
    """All rows behind their filter bytes, which are looked at, inflated to the promised length."""
    passes = list(_passes(header))
    expected = sum(rows * stride for rows, stride in passes)
    inflater = zlib.decompressobj()
    try:
        # One byte more than allowed, so that a longer stream shows; never more than that.
        scanlines = inflater.decompress(packed, expected + 1)
    except zlib.error as error:
        raise InvalidPng(Fault.DATA, f"the PNG's pixel data is damaged: {error}") from error
    if len(scanlines) != expected or not inflater.eof:
        raise InvalidPng(
            Fault.DATA,
            f"expected {expected:,} bytes of pixel data in the PNG, got "
            f"{'more' if len(scanlines) > expected else 'a stream that ends early'}",
        )
    ends = accumulate((rows * stride for rows, stride in passes), initial=0)
    for (start, end), (_, stride) in zip(pairwise(ends), passes, strict=True):
        if max(scanlines[start:end:stride]) > _LAST_FILTER:
            raise InvalidPng(Fault.DATA, "the PNG has a row with an unknown filter")
    return scanlines


def _passes(header: _Header) -> Iterator[tuple[int, int]]:
    """Rows, and bytes per row with its filter byte, of each pass that is not empty."""
    steps = _ADAM7 if header.interlaced else ((0, 0, 1, 1),)
    for first_row, first_column, row_step, column_step in steps:
        rows = len(range(first_row, header.height, row_step))
        columns = len(range(first_column, header.width, column_step))
        if rows and columns:
            yield rows, 1 + columns * CHANNELS


def _unfilter(png: bytes, header: _Header) -> bytes:
    from PIL import Image  # which takes a third of a box's start, and most files have no filters

    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            found = image.mode, image.size, image.tobytes()
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidPng(Fault.DATA, f"the PNG cannot be decoded: {error}") from error
    mode, size, samples = found
    if (mode, size) != ("RGB", (header.width, header.height)):
        raise InvalidPng(Fault.DATA, f"the PNG decodes to {mode} {size}, not to RGB")
    return samples


def _assemble(header: bytes, packed: bytes) -> bytes:
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _store(content: bytes) -> bytes:
    """`content` as a zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4)."""
    blocks = [b"\x78\x01"]
    for at in range(0, len(content), _STORED_BLOCK):
        block = content[at : at + _STORED_BLOCK]
        last = at + _STORED_BLOCK >= len(content)
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    blocks.append(struct.pack(">I", zlib.adler32(content)))
    return b"".join(blocks)
