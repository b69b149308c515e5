"""Reasons: grouped, bounded, and made of nothing that a stranger wrote."""

import io

import numpy as np
import pytest
from PIL import Image

from advcomp.rules.faults import Fault, InvalidPng, Reason, tell
from advcomp.rules.images import decode_png
from advcomp.rules.predictions import label_faults


def saved(mode: str, form: str = "PNG", size: tuple[int, int] = (6, 5)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (saved("RGB", size=(9, 5)), "1 image is 9x5, expected 6x5; images are never resized"),
        (saved("RGB", "JPEG"), "1 image is JPEG, expected PNG"),
        (saved("RGB", "BMP"), "1 image is BMP, expected PNG"),
        (saved("L"), "1 image is 8-bit greyscale, expected 8-bit RGB without alpha"),
        (saved("RGBA"), "1 image is 8-bit RGBA, expected 8-bit RGB without alpha"),
        (saved("P"), "1 image is 1-bit palette, expected 8-bit RGB without alpha"),
        (saved("I;16"), "1 image is 16-bit greyscale, expected 8-bit RGB without alpha"),
        (saved("RGB")[:-20], "1 image is truncated"),
        (b"", "1 image is an empty file, expected PNG"),
        (b"\0\0\0\x1cftypheic", "1 image is HEIC or AVIF, expected PNG"),
        (b"version https://git-lfs.github.com", "1 image is a Git LFS pointer, expected PNG"),
        (b"\x1b[31mred", "1 image is something else, expected PNG"),
        (saved("RGB").replace(b"IDAT", b"IDAX"), "1 image is damaged: a checksum is wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_image_says_why(data: bytes, told: str) -> None:
    with pytest.raises(InvalidPng) as caught:
        decode_png(data, 5, 6)
    assert tell([caught.value.reason], "image", "6x5") == (told,)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer: git lfs pull"),
        (b"<!DOCTYPE html>", "a text such as HTML or SVG: get the image itself"),
        (b"GIF89a", "GIF: save it as 8-bit RGB PNG"),
    ],
)
def test_what_is_no_image_is_not_to_be_saved_as_one(data: bytes, remedy: str) -> None:
    with pytest.raises(InvalidPng, match=f"expected a PNG, got {remedy}"):
        decode_png(data, 5, 6)


def test_equal_reasons_are_counted_and_many_are_cut() -> None:
    sizes = [Reason(Fault.SIZE, f"{n}x{n}") for n in range(20)]
    told = tell([*[Reason(Fault.ABSENT)] * 2000, *sizes], "image", "6x5")
    assert told[0] == "2,000 images are not there"
    assert told[-1] == "13 images are not valid for other reasons"
    assert len(told) == 9


def test_every_reason_can_be_told_and_has_a_byte_of_its_own() -> None:
    assert {Fault.of_code(code) for code in range(256)} == {None, *Fault}
    for fault in Fault:
        assert Fault.of_code(fault.code) is fault
        assert tell([Reason(fault)], "label")[0].startswith("1 label is ")


def test_a_missing_label_says_why() -> None:
    result = b"a.png,9.0\nb.png,1\nb.png,2\n/input_images/c.png,4\nd.png,5\nf\nx\\g.png,1\n"
    result += b"h.png;2\ni\t3\nj.png\nk 4\nk.png,5\n"
    names = [*"abcdefghijk"]
    assert label_faults(result, names) == (
        Fault.NO_NUMBER,
        Fault.CONTRADICTED,
        Fault.IN_A_FOLDER,
        None,
        Fault.NO_LINE,
        Fault.NO_COMMA,
        Fault.IN_A_FOLDER,
        Fault.NO_COMMA,
        Fault.NO_COMMA,
        Fault.NO_COMMA,
        None,
    )


def test_a_decoded_image_is_no_fault() -> None:
    assert np.array_equal(decode_png(saved("RGB"), 5, 6), np.full((5, 6, 3), (7, 0, 0)))
