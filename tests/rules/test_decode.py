"""The boxed decoder and its framing, run as the program that it is."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from advcomp.errors import SandboxError
from advcomp.rules.decode import NOT_REACHED, VALID, find_blobs, pack_blobs
from advcomp.rules.decoded import read_answer
from advcomp.rules.faults import Fault
from advcomp.rules.images import encode_png

IMAGES: NDArray[np.uint8] = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)
PNGS = [encode_png(image) for image in IMAGES]


def run_decoder(folder: Path, files: list[bytes]) -> tuple[bytes, bytes]:
    with (folder / "packed").open("wb") as file:
        pack_blobs(files, file)
    return decode(folder)


def decode(folder: Path, *before: str) -> tuple[bytes, bytes]:
    output = folder / "out"
    output.mkdir()
    program = [sys.executable, "-m", "advcomp.rules.decode", str(folder / "packed"), str(output)]
    subprocess.run([*before, *program, "2", "4"], check=not before, capture_output=True)
    return (folder / "out/valid").read_bytes(), (folder / "out/pixels").read_bytes()


def test_program_judges_each_file_and_returns_the_samples(tmp_path: Path) -> None:
    files = [PNGS[0], b"not a png", PNGS[1], b"", PNGS[2]]
    valid, pixels = run_decoder(tmp_path, files)
    decoded = read_answer(valid, pixels, count=5, height=2, width=4)
    assert decoded.valid.tolist() == [True, False, True, False, True]
    assert decoded.faults == (None, Fault.FORMAT, None, Fault.FORMAT, None)
    assert np.array_equal(decoded.pixels[decoded.valid], IMAGES)
    assert not decoded.pixels[~decoded.valid].any()


def test_program_accepts_no_files_at_all(tmp_path: Path) -> None:
    assert run_decoder(tmp_path, []) == (b"", b"")
    assert len(read_answer(b"", b"", count=0, height=2, width=4).valid) == 0


def test_what_was_judged_before_the_decoder_died_is_on_record(tmp_path: Path) -> None:
    with (tmp_path / "packed").open("wb") as file:
        pack_blobs([PNGS[0], b"broken"], file)
        file.write((8 << 30).to_bytes(8, "little"))
        file.truncate(file.tell() + (8 << 30))  # sparse: takes no room, but memory to read
        file.seek(0, 2)
        pack_blobs([PNGS[1]], file)
    valid, pixels = decode(tmp_path, "prlimit", f"--as={4 << 30}")
    assert valid == bytes([VALID, Fault.FORMAT.code, NOT_REACHED, NOT_REACHED])
    decoded = read_answer(valid, pixels, count=4, height=2, width=4)
    assert decoded.valid.tolist() == [True, False]
    assert np.array_equal(decoded.pixels[0], IMAGES[0])


def test_a_decoder_that_is_killed_leaves_what_it_judged(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (tmp_path / "packed").open("wb") as file:
        pack_blobs([PNGS[0], b"broken", PNGS[2], b"kill", PNGS[1]], file)
    program = """if True:
        import os, pathlib, sys
        from advcomp.rules import decode
        whole = decode.decode_samples
        def fragile(data, height, width):
            return os.kill(os.getpid(), 9) if data == b"kill" else whole(data, height, width)
        decode.decode_samples = fragile
        decode.decode_files(pathlib.Path("packed"), pathlib.Path("out"), 2, 4)
    """
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == -9
    valid, pixels = ((tmp_path / "out" / name).read_bytes() for name in ("valid", "pixels"))
    decoded = read_answer(valid, pixels, count=5, height=2, width=4)
    assert decoded.valid.tolist() == [True, False, True]
    assert np.array_equal(decoded.pixels[[0, 2]], IMAGES[[0, 2]])


def test_packed_blobs_are_found_again() -> None:
    file = BytesIO()
    blobs = [b"", b"one", b"", b"three" * 99]
    assert pack_blobs(iter(blobs), file) == 4
    assert [file.getvalue()[at : at + n] for at, n in find_blobs(file)] == blobs
    assert file.getvalue()[8:19] == b"\3\0\0\0\0\0\0\0one"


@pytest.mark.parametrize("kept", range(1, 10))
def test_a_truncated_pack_is_refused(kept: int) -> None:
    file = BytesIO()
    pack_blobs([b"first", b"xx"], file)
    file.truncate(13 + kept)
    with pytest.raises(ValueError, match="blob 1 is truncated"):
        find_blobs(file)


@pytest.mark.parametrize(
    ("valid", "pixels"),
    [(None, bytes(48)), (bytes(2), None), (bytes(3), bytes(48)), (bytes(2), bytes(47)),
     (bytes(2), bytes(49)), (b"", b"")],
    ids=["no judgements", "no pixels", "one more", "one byte less", "one byte more", "empty"],
)  # fmt: skip
def test_answer_of_the_wrong_length_is_our_failure(
    valid: bytes | None, pixels: bytes | None
) -> None:
    with pytest.raises(SandboxError, match="must leave 2 judgements and 48 bytes"):
        read_answer(valid, pixels, count=2, height=2, width=4)


def test_nothing_counts_after_the_first_byte_that_is_no_judgement() -> None:
    for hole in (0, 2, 15, max(fault.code for fault in Fault) + 1, 255):
        decoded = read_answer(
            bytes([1, Fault.DATA.code, hole, 1]), bytes(96), count=4, height=2, width=4
        )
        assert decoded.valid.tolist() == [True, False]
        assert decoded.pixels.shape == (2, 2, 4, 3)


def test_the_program_starts_without_numpy_and_pillow() -> None:
    """Which would take longer than most of what it decodes."""
    code = "import sys, advcomp.rules.decode; sys.exit(bool({'numpy', 'PIL'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
