"""Encoding, strict decoding and rounding, against a second PNG reader written in plain Python."""

import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, ImageFile

from advcomp.errors import InvalidImage
from advcomp.rules.images import decode_png, encode_png, round_to_uint8
from advcomp.rules.png import check_header, max_png_bytes, read_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
ADAM7.append((1, 0, 2, 1))
Pixels = NDArray[np.uint8]


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def ihdr(width: int, height: int, *rest: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">II5B", width, height, *(rest or (8, 2, 0, 0, 0))))


def png(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + chunk(b"IEND", b"")


def predict(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        guess = left + up - corner
        return min((left, up, corner), key=lambda value: abs(guess - value))
    return [0, left, up, (left + up) // 2][kind]


def filter_rows(image: Pixels, kinds: list[int], sign: int) -> list[list[int]]:
    """Apply (sign 1) PNG's filters to the rows of `image`, one kind per row, in plain ints."""
    height, width, channels = image.shape
    rows = image.reshape(height, width * channels).tolist()
    blank = [0] * (width * channels)
    filtered = []
    for y, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        above = rows[y - 1] if y else blank
        filtered.append([kind])
        for x, value in enumerate(row):
            left, corner = (row[x - 3], above[x - 3]) if x >= 3 else (0, 0)
            filtered[-1].append((value - sign * predict(kind, left, above[x], corner)) % 256)
    return filtered


def write_png(
    image: Pixels, *, interlaced: bool = False, filters: Sequence[int] = (0, 1, 2, 3, 4)
) -> bytes:
    """A PNG whose rows go through some filters in turn, or through all five."""
    height, width, _ = image.shape
    scanlines = bytearray()
    for top, left, down, right in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = image[top::down, left::right]
        if part.size:
            kinds = [filters[(y + top) % len(filters)] for y in range(len(part))]
            scanlines += bytes(b for row in filter_rows(part, kinds, 1) for b in row)
    header = ihdr(width, height, 8, 2, 0, 0, int(interlaced))
    return png(header, chunk(b"IDAT", zlib.compress(bytes(scanlines))))


def read_png(data: bytes) -> Pixels:
    """A reader of non-interlaced 8-bit RGB PNGs that shares nothing with the one under test."""
    assert data[:8] == SIGNATURE
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        content = data[at + 8 : at + 8 + length]
        assert chunk(data[at + 4 : at + 8], content) == data[at : at + 12 + length]
        chunks.append((data[at + 4 : at + 8], content))
        at += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">II5B", chunks[0][1])
    assert rest == [8, 2, 0, 0, 0]
    scanlines = zlib.decompress(chunks[1][1])
    stride = 1 + width * 3
    assert len(scanlines) == height * stride
    rows: list[list[int]] = []
    for y in range(height):
        kind, *row = scanlines[y * stride : (y + 1) * stride]
        above = rows[-1] if rows else [0] * (width * 3)
        for x in range(width * 3):
            left, corner = (row[x - 3], above[x - 3]) if x >= 3 else (0, 0)
            row[x] = (row[x] + predict(kind, left, above[x], corner)) % 256
        rows.append(row)
    return np.array(rows, np.uint8).reshape(height, width, 3)


def random_image(height: int, width: int) -> Pixels:
    generator = np.random.Generator(np.random.PCG64(height * 1000 + width))
    return generator.integers(0, 256, (height, width, 3), np.uint8)


IMAGE = random_image(5, 7)
SCANLINES = b"".join(b"\0" + row.tobytes() for row in IMAGE)
IDAT = chunk(b"IDAT", zlib.compress(SCANLINES))
HEADER = ihdr(7, 5)


def test_canonical_bytes_are_fixed() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    stored = "78 01  01 0700 f8ff  00 000102030405  002a0010"
    assert encode_png(image) == png(ihdr(2, 1), chunk(b"IDAT", bytes.fromhex(stored)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (1, 21845), (149, 149), (300, 299)])
def test_canonical_png_reads_back_in_a_second_reader(height: int, width: int) -> None:
    image = random_image(height, width)
    assert np.array_equal(read_png(encode_png(image)), image)
    assert np.array_equal(decode_png(encode_png(image), height, width), image)


def test_canonical_size_says_nothing_about_the_pixels() -> None:
    sizes = {len(encode_png(np.full((40, 30, 3), v, np.uint8))) for v in range(256)}
    assert sizes | {len(encode_png(random_image(40, 30)))} == sizes
    assert len(sizes) == 1


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
    lambda size: hnp.arrays(np.uint8, (*size, 3))), st.booleans())  # fmt: skip
def test_every_filter_and_interlacing_decodes_to_the_stored_samples(
    image: Pixels, interlaced: bool
) -> None:
    data = write_png(image, interlaced=interlaced)
    assert np.array_equal(decode_png(data, *image.shape[:2]), image)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("filters", [[0] * row + [kind] + [0] * (4 - row)
    for row in range(5) for kind in range(5)])  # fmt: skip
def test_a_filter_of_one_row_is_undone_and_none_where_there_is_none(
    filters: list[int], interlaced: bool
) -> None:
    data = write_png(IMAGE, interlaced=interlaced, filters=filters)
    assert np.array_equal(decode_png(data, 5, 7), IMAGE)


@pytest.mark.parametrize(("height", "width"), list(product(range(1, 10), repeat=2)))
def test_interlaced_images_of_every_small_size_decode(height: int, width: int) -> None:
    image = random_image(height, width)
    assert np.array_equal(decode_png(write_png(image, interlaced=True), height, width), image)


DROPPED = {
    "gamma": chunk(b"gAMA", struct.pack(">I", 10_000)),
    "srgb": chunk(b"sRGB", b"\0"),
    "chromaticities": chunk(b"cHRM", struct.pack(">8I", *[10_000] * 8)),
    "background": chunk(b"bKGD", b"\0\xff\0\xff\0\xff"),
    "transparency of a colour": chunk(b"tRNS", IMAGE[0, 0].astype(">u2").tobytes()),
    "broken transparency": chunk(b"tRNS", b"\0"),
    "exif rotation": chunk(b"eXIf", b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0"),
    "garbage icc": chunk(b"iCCP", b"name\0\0not zlib"),
    "icc bomb": chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(100_000_000))),
    "text bomb": chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(100_000_000))),
    "apng control": chunk(b"acTL", struct.pack(">II", 2, 0)),
    "suggested palette": chunk(b"PLTE", bytes(6)),
    "private": chunk(b"prVt", b"anything"),
}


@pytest.mark.parametrize("extra", DROPPED.values(), ids=DROPPED.keys())
def test_ancillary_chunks_are_dropped(extra: bytes) -> None:
    assert np.array_equal(decode_png(png(HEADER, extra, IDAT), 5, 7), IMAGE)


def test_apng_gives_its_default_image() -> None:
    frames = BytesIO()
    first, second = Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)
    first.save(frames, "PNG", save_all=True, append_images=[second])
    assert b"fdAT" in frames.getvalue()
    assert np.array_equal(decode_png(frames.getvalue(), 5, 7), IMAGE)


def test_bytes_after_iend_are_dropped() -> None:
    assert np.array_equal(decode_png(png(HEADER, IDAT) + b"<?php evil" * 99, 5, 7), IMAGE)


def test_pixel_data_may_come_in_many_chunks() -> None:
    packed = zlib.compress(SCANLINES)
    pieces = [chunk(b"IDAT", packed[i : i + 1]) for i in range(len(packed))]
    pieces.insert(3, chunk(b"IDAT", b""))
    assert np.array_equal(decode_png(png(HEADER, *pieces), 5, 7), IMAGE)


def saved(mode: str, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(IMAGE).convert(mode).save(file, kind)
    return file.getvalue()


def broken_checksum(at_the_end_of: bytes) -> bytes:
    return at_the_end_of[:-1] + bytes([at_the_end_of[-1] ^ 1])


HEADER_REFUSED = {
    "empty": b"",
    "jpeg": saved("RGB", "JPEG"),
    "cmyk jpeg": saved("CMYK", "JPEG"),
    "gif": saved("RGB", "GIF"),
    "tiff": saved("RGB", "TIFF"),
    "eps": saved("RGB", "EPS"),
    "webp": saved("RGB", "WEBP"),
    "signature only": SIGNATURE,
    "cut within the header": png(HEADER, IDAT)[:30],
    "not IHDR first": png(chunk(b"gAMA", bytes(4)), HEADER, IDAT),
    "long IHDR": png(chunk(b"IHDR", struct.pack(">II5B", 7, 5, 8, 2, 0, 0, 0) + b"\0"), IDAT),
    "header checksum": png(broken_checksum(HEADER), IDAT),
    "greyscale": saved("L"),
    "one bit": saved("1"),
    "palette": saved("P"),
    "rgba": saved("RGBA"),
    "grey with alpha": saved("LA"),
    "16 bits": png(ihdr(7, 5, 16, 2, 0, 0, 0), IDAT),
    "transposed": png(ihdr(5, 7), IDAT),
    "one column more": png(ihdr(8, 5), IDAT),
    "one row less": png(ihdr(7, 4), IDAT),
    "bomb of one bit": png(ihdr(60_000, 60_000, 1, 0, 0, 0, 0), IDAT),
    "bomb of colours": png(ihdr(13_300, 13_300), IDAT),
    "no width": png(ihdr(0, 5), IDAT),
    "no height": png(ihdr(7, 0), IDAT),
    "sides of 32 bits": png(ihdr(2**32 - 1, 2**32 - 1), IDAT),
    "unknown compression": png(ihdr(7, 5, 8, 2, 1, 0, 0), IDAT),
    "unknown filters": png(ihdr(7, 5, 8, 2, 0, 1, 0), IDAT),
    "unknown interlacing": png(ihdr(7, 5, 8, 2, 0, 0, 2), IDAT),
    "too many bytes": png(HEADER, IDAT) + bytes(max_png_bytes(5, 7)),
}
BODY_REFUSED = {
    "no pixel data": png(HEADER),
    "empty pixel data": png(HEADER, chunk(b"IDAT", b"")),
    "no end": SIGNATURE + HEADER + IDAT,
    "cut within pixel data": png(HEADER, IDAT)[:-30],
    "cut by one byte": png(HEADER, IDAT)[:-1],
    "length beyond the file": SIGNATURE + HEADER + b"\xff\xff\xff\xff" + IDAT[4:],
    "pixel checksum": png(HEADER, broken_checksum(IDAT)),
    "ancillary checksum": png(HEADER, broken_checksum(chunk(b"gAMA", bytes(4))), IDAT),
    "end checksum": broken_checksum(png(HEADER, IDAT)),
    "second header": png(HEADER, HEADER, IDAT),
    "unknown critical chunk": png(HEADER, chunk(b"EVIL", b""), IDAT),
    "pixel data apart": png(
        HEADER,
        chunk(b"IDAT", zlib.compress(SCANLINES)[:20]),
        chunk(b"tEXt", b"a\0b"),
        chunk(b"IDAT", zlib.compress(SCANLINES)[20:]),
    ),
    "not zlib": png(HEADER, chunk(b"IDAT", b"hello, pixels")),
    "zlib checksum": png(HEADER, chunk(b"IDAT", broken_checksum(zlib.compress(SCANLINES)))),
    "one row short": png(HEADER, chunk(b"IDAT", zlib.compress(SCANLINES[:-22]))),
    "one byte short": png(HEADER, chunk(b"IDAT", zlib.compress(SCANLINES[:-1]))),
    "one byte more": png(HEADER, chunk(b"IDAT", zlib.compress(SCANLINES + b"\0"))),
    "stream without its end": png(HEADER, chunk(b"IDAT", zlib.compress(SCANLINES)[:-4])),
    "unknown row filter": png(HEADER, chunk(b"IDAT", zlib.compress(b"\5" + SCANLINES[1:]))),
    "unknown last row filter": png(
        HEADER, chunk(b"IDAT", zlib.compress(SCANLINES[:-22] + b"\5" + SCANLINES[-21:]))
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", HEADER_REFUSED.values(), ids=HEADER_REFUSED.keys())
def test_header_alone_refuses(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        check_header(data, 5, 7)
    with pytest.raises(InvalidImage):
        decode_png(data, 5, 7)


@pytest.mark.parametrize("data", BODY_REFUSED.values(), ids=BODY_REFUSED.keys())
def test_decoding_refuses_what_the_header_could_not_tell(data: bytes) -> None:
    check_header(data, 5, 7)
    with pytest.raises(InvalidImage):
        decode_png(data, 5, 7)


@pytest.mark.parametrize("data", BODY_REFUSED.values(), ids=BODY_REFUSED.keys())
def test_pillows_switch_for_truncated_files_changes_nothing(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InvalidImage):
        decode_png(data, 5, 7)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("cut", range(33, len(write_png(IMAGE))))
def test_no_truncation_is_accepted(cut: int, interlaced: bool) -> None:
    with pytest.raises(InvalidImage):
        decode_png(write_png(IMAGE, interlaced=interlaced)[:cut], 5, 7)


def test_an_idat_bomb_is_refused_in_little_memory() -> None:
    deflater = zlib.compressobj(9)
    first, second = (
        deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    bomb = first + 499 * second  # what follows a full flush may be repeated
    assert zlib.decompressobj().decompress(bomb, 3 << 20) == bytes(3 << 20)
    data = png(HEADER, chunk(b"IDAT", bomb))
    tracemalloc.start()
    with pytest.raises(InvalidImage, match="got more"):
        decode_png(data, 5, 7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * len(data)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, len(png(HEADER, IDAT)) - 13), st.integers(1, 255))
def test_no_flipped_byte_goes_unnoticed(at: int, flip: int) -> None:
    data = bytearray(png(HEADER, IDAT))
    data[at] ^= flip
    with pytest.raises(InvalidImage):
        decode_png(bytes(data), 5, 7)


def test_a_decoded_image_can_be_written_to() -> None:
    decode_png(encode_png(IMAGE), 5, 7)[0, 0, 0] = 1


def test_size_is_height_then_width() -> None:
    assert read_size(encode_png(IMAGE)) == (5, 7)
    with pytest.raises(InvalidImage, match="expected a PNG"):
        read_size(b"GIF89a")


def test_an_image_that_is_too_large_to_handle_is_refused_whatever_was_expected() -> None:
    with pytest.raises(InvalidImage, match="expected 1 to 67,108,864 pixels"):
        check_header(png(ihdr(13_300, 13_300), IDAT), 13_300, 13_300)


def test_size_error_names_both_sizes() -> None:
    with pytest.raises(InvalidImage, match="expected width x height 299x200, got 7x5"):
        check_header(encode_png(IMAGE), 200, 299)


@pytest.mark.parametrize(
    "image",
    [IMAGE.astype(np.int16), IMAGE[:, :, :1], IMAGE[0], IMAGE.astype(np.float32) / 255],
    ids=["int16", "one channel", "no rows", "floats"],
)
def test_only_uint8_rgb_is_encoded(image: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        encode_png(image)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_rounding_returns_every_level_that_it_was_given(kind: type[np.floating[Any]]) -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(round_to_uint8((levels / 255).astype(kind)), levels)


def test_rounding_goes_to_the_nearest_level_and_stays_in_range() -> None:
    levels = np.array([-9, -0.4, 0.4, 0.6, 15.49, 15.51, 254.4, 254.6, 255.2, 300])
    assert round_to_uint8(levels / 255).tolist() == [0, 0, 0, 1, 15, 16, 254, 255, 255, 255]


def test_rounding_keeps_an_epsilon_budget_that_truncation_would_break() -> None:
    clean = np.arange(256)
    for eps in range(256):
        for sign in (-1, 1):
            moved = np.clip(clean + sign * eps, 0, 255)
            floats = (moved / np.float32(255)).astype(np.float32)
            assert np.array_equal(round_to_uint8(floats), moved)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rounding_refuses_what_is_no_number(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        round_to_uint8(np.array([0.5, value]))
