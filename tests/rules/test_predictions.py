"""A defense's CSV: every label right or missing, whatever else the file holds."""

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advcomp.rules.predictions import parse_predictions


def parse(data: bytes, *names: str) -> list[int]:
    labels = parse_predictions(data, names)
    assert labels.dtype == np.int16
    return [int(label) for label in labels]


def test_worked_example_of_the_rules() -> None:
    data = b"a.png,5\nb.jpg, 7 \nc,8\nd.png,9.0\ne.png\n\na.png,6\nf.JPEG,3\ng.png,10,extra\n"
    assert parse(data, *"abcdefg", "f.JPEG") == [-1, 7, 8, -1, -1, -1, 10, 3]


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("0", 0), ("5", 5), ("  5\t ", 5), ("000005", 5), ("32766", 32766), ("32767", 32767),
        ("32768", 32767), ("65541", 32767), ("999999", 32767), ('"5"', 5),
        ("1000000", -1), ("0000005", -1), ("1" + "0" * 40, -1), ("", -1), (" ", -1), ("nan", -1),
        ("NaN", -1), ("inf", -1), ("1.0", -1), ("1e2", -1), ("1_0", -1), ("+5", -1), ("-1", -1),
        ("-0", -1), ("0x10", -1), ("5 6", -1), ("\u0665", -1), ("\uff15", -1), ("²", -1),
        ("5\0", -1), ("\v5", -1), ("\u00a05", -1), ("=1+1", -1), ("@SUM(1)", -1),
        ("TrueLabel", -1),
        ("5;", -1), (' "5"', -1), ('"5"x', -1), ("'5'", -1), ('"5\n"', -1),
    ],
)  # fmt: skip
def test_a_label_is_one_to_six_ascii_digits(cell: str, label: int) -> None:
    data = f"first.png,1\na.png,{cell}\nlast.png,2\n".encode()
    assert parse(data, "first", "a", "last") == [1, label, 2]


@pytest.mark.parametrize(
    ("cell", "name"),
    [("a", "a"), ("a.png", "a"), ("a.jpg", "a"), ("a.png.png", "a.png"), ("a.jpg.png", "a.jpg"),
     ("a.PNG", "a.PNG"), ("a.JPEG", "a.JPEG"), ('"a.png"', "a"), (".png", "")],
)  # fmt: skip
def test_one_extension_is_stripped(cell: str, name: str) -> None:
    assert parse(f"{cell},5".encode(), name) == [5]


@pytest.mark.parametrize(
    "cell",
    ["./a.png", "/output/a.png", "images/a.png", "..\\a.png", " a.png", "a.png ", "a.PNG", "A.png",
     "a.jpeg", "a.png.png", "a\0.png", "", ".png", "\ufeffa.png", "\uff41.png"],
)  # fmt: skip
def test_unknown_names_are_ignored(cell: str) -> None:
    assert parse(f"first.png,1\n{cell},5\nlast.png,2".encode(), "first", "a", "last") == [1, -1, 2]


@pytest.mark.parametrize(
    ("lines", "label"),
    [("a,5\na,6", -1), ("a.png,5\na.jpg,6", -1), ("a,5\na,6\na,5", -1), ("a,5\na,6\na,6", -1),
     ("a,5\na,5", 5), ("a.png,5\na,005\na.jpg, 5 ", 5), ("a,5\na,x\na", 5), ("a,x\na,5", 5),
     ("a,40000\na,50000", -1), ("a,40000\na,40000", 32767)],
)  # fmt: skip
def test_contradicting_duplicates_are_missing_and_agreeing_ones_are_not(
    lines: str, label: int
) -> None:
    assert parse(lines.encode(), "a") == [label]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "bom"])
@pytest.mark.parametrize("last", ["", "{}"], ids=["cut", "ended"])
def test_line_ends_and_a_byte_order_mark_change_nothing(mark: bytes, end: str, last: str) -> None:
    data = mark + (end.join(["a.png,1", "b.png,2", "c.png,3"]) + last.format(end)).encode()
    assert parse(data, "a", "b", "c") == [1, 2, 3]


def test_a_second_byte_order_mark_belongs_to_the_name() -> None:
    assert parse(b"\xef\xbb\xbf\xef\xbb\xbfa,1\nb,2", "a", "b") == [-1, 2]


def test_a_header_is_a_line_like_any_other() -> None:
    assert parse(b"file_name,label\na.png,1", "a", "file_name") == [1, -1]


@pytest.mark.parametrize("data", [b"", b"\n\n\n", b"\xef\xbb\xbf", b"a", b"\0" * 99, b"a;5\nb;6"])
def test_files_without_a_label_leave_all_missing(data: bytes) -> None:
    assert parse(data, "a", "b") == [-1, -1]


def test_a_file_in_another_encoding_has_no_names() -> None:
    assert parse("a.png,5\n".encode("utf-16"), "a") == [-1]


def test_bytes_that_are_not_utf8_cost_only_their_own_line() -> None:
    assert parse(b"a,1\n\xff.png,2\nb,\xe93\nc,4", "a", "b", "c", "\xff") == [1, -1, 4, -1]


@pytest.mark.parametrize("long", ["x" * 131_073, '"' + "x" * 131_073 + '"', "1" * 131_073])
def test_a_field_that_is_too_long_costs_only_its_own_line(long: str) -> None:
    assert parse(f"a,1\n{long},7\nb,2\nc,{long}\nd,4".encode(), *"abcd") == [1, 2, -1, 4]


def test_an_unclosed_quote_swallows_131072_characters_at_most() -> None:
    lines = "".join(f"n{i},{i % 9}\n" for i in range(30_000))
    labels = parse_predictions(f'first,1\n"{lines}'.encode(), ["first", "n0", "n29999"])
    assert labels.tolist() == [1, -1, 29999 % 9]


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [b'"' * 6_000_000, b'"\n' * 3_000_000, b"," * 6_000_000, b"\n" * 6_000_000, b"\0" * 6_000_000,
     b'a,"' * 2_000_000, b"\xff" * 6_000_000, b"1" * 6_000_000, b"\r" * 6_000_000],
    ids=["quotes", "quoted lines", "commas", "lines", "nul", "open", "bytes", "digits", "returns"],
)  # fmt: skip
def test_megabytes_of_anything_take_bounded_time(data: bytes) -> None:
    start = time.process_time()
    assert parse(data + b"\na,5", "a") in ([5], [-1])
    assert time.process_time() - start < 10


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"b.png", b"7", b",", b'"', b"\n", b"\r", b"\0", b"\xff"])))
@example([b"a", b",", b'"', b"7"])
def test_no_file_raises_or_invents_a_label(parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert all(label == -1 or str(label).encode() in data for label in parse(data, "a", "b"))


def test_order_of_labels_is_that_of_the_names() -> None:
    assert parse(b"a,1\nb,2\nc,3", "c", "a", "b") == [3, 1, 2]
    assert parse(b"a,1") == []
