"""Every reader of strangers' bytes, on what fuzzing has found and reached, and on new mutants."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fuzz.mending import mend_image, mend_png, mend_tar
from fuzz.readers import LIMIT_S, READERS, BrokenPromise, Reader
from fuzz.seeds import SEEDS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.tiny_image import config_of, docker_archive, tar_of

from advcomp.errors import InvalidSubmission
from advcomp.rules.images import decode_png, encode_png

HERE = Path(__file__).parent
Edit = tuple[int, int, bytes]


def examples(reader: str) -> list[bytes]:
    """The committed corpus, and all that ever broke the reader."""
    folders = (HERE / "corpus" / reader, HERE / "found" / reader)
    return [path.read_bytes() for folder in folders for path in sorted(folder.glob("*"))]


def edits() -> st.SearchStrategy[list[Edit]]:
    """Where, how many bytes go, and what comes instead."""
    place, gone = st.integers(0, 1 << 14), st.sampled_from((0, 0, 1, 1, 2, 4, 64, 512))
    return st.lists(st.tuples(place, gone, st.binary(max_size=8)), min_size=1, max_size=6)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    for place, gone, new in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


@pytest.mark.parametrize("name", READERS)
def test_nothing_that_was_found_breaks_it(name: str) -> None:
    assert len(examples(name)) >= 3
    for data in examples(name):
        READERS[name].once(data)


@pytest.mark.parametrize("name", READERS)
def test_no_mutant_breaks_it(name: str) -> None:
    reader, begun = READERS[name], examples(name)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(begun), edits(), st.booleans())
    @example(b"", [(0, 0, b"")], False)
    def mutants(data: bytes, changes: list[Edit], mended: bool) -> None:
        mutant = edited(data, changes)
        reader.once(reader.mend(mutant) if mended else mutant)

    mutants()


def test_each_has_seeds_and_words() -> None:
    assert SEEDS.keys() == READERS.keys()
    assert {path.stem for path in (HERE / "dictionaries").iterdir()} == READERS.keys()


@pytest.mark.parametrize("said", [KeyError("x"), RecursionError(), MemoryError()])
def test_what_a_reader_does_not_document_is_a_bug(said: Exception) -> None:
    def read(data: bytes) -> None:
        raise said

    with pytest.raises(type(said)):
        Reader(read=read, refusals=(InvalidSubmission,)).once(b"")


def test_a_reader_that_takes_too_long_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[float] = iter((0.0, LIMIT_S + 0.1))
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    with pytest.raises(BrokenPromise, match=r"took 1\.1 s"):
        Reader(read=lambda data: None).once(b"")


def test_a_mended_png_is_read_to_its_pixels() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    broken = bytearray(encode_png(image))
    broken[len(broken) - 13] ^= 1  # in the checksum behind the pixels
    assert np.array_equal(decode_png(mend_png(bytes(broken)), 2, 3), image)


def test_a_mended_tar_and_a_mended_image_are_read_to_their_end() -> None:
    layer = tar_of({"a": b"1"})
    image = docker_archive(config_of([layer]), [layer])
    wrong = image[:148] + b"7777777 " + image[156:]
    other = tar_of({"b": b"2"})
    mixed = docker_archive(config_of([layer]), [other])
    assert mend_tar(wrong) == image
    with pytest.raises(InvalidSubmission, match="expected a layer with"):
        READERS["image"].read(mixed)
    READERS["image"].read(mend_image(mixed))
