"""Every reader of what a stranger wrote, as a function of the bytes alone.

A reader may return, or refuse by the exceptions that it documents. Everything else is a bug: any
other exception, an answer that breaks the reader's own promise, or more than `LIMIT_S` of one
processor.
"""

import contextlib
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from fuzz.mending import as_it_is, mend_image, mend_png, mend_tar
from pydantic import ValidationError

from advcomp.errors import InvalidConfig, InvalidSubmission
from advcomp.rules import metadata
from advcomp.rules.entry_point import first_program, start_notes
from advcomp.rules.faults import InvalidPng
from advcomp.rules.image_archive import check
from advcomp.rules.image_config import ImageConfig, InspectedImage
from advcomp.rules.images import decode_png, encode_png
from advcomp.rules.images_csv import read_image_rows
from advcomp.rules.labels import LARGEST_LABEL, MISSING, OUT_OF_RANGE
from advcomp.rules.layer import ImageChecks, read_layer
from advcomp.rules.metadata import read_metadata
from advcomp.rules.metadata_answer import read_metadata_answer
from advcomp.rules.png import read_size
from advcomp.rules.predictions import label_faults, parse_predictions
from advcomp.rules.receive import receive
from advcomp.rules.sizes import unpacked_limit
from advcomp.rules.unpack import DAMAGE, unpack
from advcomp.tournament.config import load_tournament

LIMIT_S = 1.0
"""Processor time that one input of a few kilobytes may take."""
MOST_BYTES = 64 << 20
"""What one input may be written out to; the seeds unpack to some kilobytes."""
MOST_PIXELS = 1 << 16
SCRATCH = "ADVCOMP_FUZZ_SCRATCH"
"""Names a folder for the readers' files, which whoever sets it clears away."""
NAMES = ("a", "b", "0001", "x y")


class BrokenPromise(AssertionError):
    """A reader answered, and not as it says it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One reader of strangers' bytes.

    Args:
        read: Reads them, and checks what it is given.
        refusals: How it may refuse them.
        mend: Gives mutated bytes their checksums back, so that mutants get past those.
        imports: A module whose import is no part of reading.
    """

    read: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...] = ()
    mend: Callable[[bytes], bytes] = as_it_is
    imports: str = ""

    def once(self, data: bytes) -> float:
        """Read them; returns the processor time in seconds.

        Raises:
            Exception: What the reader does not document.
            BrokenPromise: It answers wrongly, or too late.
        """
        if self.imports:
            importlib.import_module(self.imports)
        began = time.process_time()
        with contextlib.suppress(*self.refusals):
            self.read(data)
        spent = time.process_time() - began
        if spent > LIMIT_S:
            raise BrokenPromise(f"took {spent:.1f} s of a processor, of {LIMIT_S} s")
        return spent


def promise(kept: bool, what: str) -> None:
    """Raise where it is not kept."""
    if not kept:
        raise BrokenPromise(what)


def in_memory() -> "tempfile.TemporaryDirectory[str]":
    """A fresh folder, in memory where the machine has such a place."""
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(
        prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None
    )


@cache
def _place() -> "tempfile.TemporaryDirectory[str]":
    """The folder of this process; libFuzzer ends without clearing away, so it says where."""
    return (
        tempfile.TemporaryDirectory(dir=os.environ[SCRATCH])
        if SCRATCH in os.environ
        else in_memory()
    )


@cache
def scratch() -> Path:
    """The folder of this process's files: each input of a reader writes the same again."""
    return Path(_place().name)


def written(name: str, data: bytes) -> Path:
    path = scratch() / name
    path.write_bytes(data)
    return path


def fresh() -> Path:
    """Where a folder may be received."""
    folder = scratch() / "taken"
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def read_png(data: bytes) -> None:
    height, width = read_size(data)
    if height * width <= MOST_PIXELS:
        image = decode_png(data, height, width)
        promise(image.shape == (height, width, 3) and image.dtype == np.uint8, "the shape")
        promise(np.array_equal(decode_png(encode_png(image), height, width), image), "the pixels")


def read_predictions(data: bytes) -> None:
    labels, faults = parse_predictions(data, NAMES), label_faults(data, NAMES)
    known = ((labels >= 0) & (labels <= LARGEST_LABEL)) | np.isin(labels, (MISSING, OUT_OF_RANGE))
    promise(bool(known.all()), f"labels {labels}")
    promise([f is not None for f in faults] == [x == MISSING for x in labels], "the faults")


def read_entry(data: bytes) -> None:
    """metadata.json, and its way to the referee."""
    path = written(metadata.FILE_NAME, data)
    (path.parent / "run.sh").touch()
    answer = read_metadata(path.parent)
    promise((answer.metadata is None) == bool(answer.problems), "either metadata or problems")
    line = answer.line().encode()
    promise(len(line) <= metadata.MAX_ANSWER_BYTES, f"an answer of {len(line)} bytes")
    if answer.metadata is not None:
        found = read_metadata_answer(line, "entry")[0].model_dump(exclude_unset=True)
        promise(found == answer.metadata, "the way back")


def read_answer(data: bytes) -> None:
    read_metadata_answer(data, "entry")


def read_script(data: bytes) -> None:
    path = written("run.sh", data)
    for note in start_notes(path.parent, "run.sh"):
        promise(note.isprintable(), f"a note that cannot be shown: {note!r}")
    first_program(path)


def read_archive(data: bytes) -> None:
    taken(unpack, written("entry", data))


def read_image(data: bytes) -> None:
    taken(check, written("image.tar", data))


def taken(read: Callable[[Path, BytesIO], None], path: Path) -> None:
    """What a program in a box writes of an archive, as the referee receives it."""
    out = Bounded()
    read(path, out)
    out.seek(0)
    folder = fresh()
    receive(out, folder, name="entry", max_bytes=MOST_BYTES)
    plain(folder)


def read_records(data: bytes) -> None:
    folder = fresh()
    receive(BytesIO(data), folder, name="entry", max_bytes=MOST_BYTES)
    plain(folder)


def plain(folder: Path) -> None:
    """Only files and folders stand in it."""
    for path in folder.rglob("*"):
        promise(not path.is_symlink() and (path.is_file() or path.is_dir()), f"{path} is special")


class Bounded(BytesIO):
    """Where a program may write so much and no more."""

    def write(self, content: bytes) -> int:  # type: ignore[override]
        promise(self.tell() + len(content) <= 2 * MOST_BYTES, "it writes without bound")
        return super().write(content)

    def add(self, content: bytes) -> None:
        self.write(content)


def read_image_layer(data: bytes) -> None:
    out = Bounded()
    checks = ImageChecks(unpacked_limit(len(data)))
    digest = read_layer(BytesIO(data), out.add, checks)
    promise(digest.startswith("sha256:"), digest)
    tuple(checks.kinds.problems())


def read_image_config(data: bytes) -> None:
    for model in (ImageConfig, InspectedImage):
        for problem in model.model_validate_json(data).problems():
            promise(isinstance(problem, str), repr(problem))


def read_tournament(data: bytes) -> None:
    load_tournament(written("round.toml", data))


def read_csv_of_images(data: bytes) -> None:
    problems: list[str] = []
    read_image_rows(written("images.csv", data), problems)
    promise(all(isinstance(each, str) for each in problems), "problems")


def read_weights_file(data: bytes) -> None:
    """Headers alone are ours: what stands behind them is read by safetensors and by PyTorch."""
    from advcomp.players.classifier.weights import read_weights  # torch, for this reader alone

    read_weights(written("weights", data))


READERS = {
    "png": Reader(read=read_png, refusals=(InvalidPng,), mend=mend_png),
    "predictions": Reader(read=read_predictions),
    "metadata": Reader(read=read_entry),
    "metadata_answer": Reader(read=read_answer, refusals=(InvalidSubmission,)),
    "script": Reader(read=read_script),
    "archive": Reader(read=read_archive, refusals=(InvalidSubmission,), mend=mend_tar),
    "records": Reader(read=read_records, refusals=(InvalidSubmission,)),
    "image": Reader(read=read_image, refusals=(InvalidSubmission,), mend=mend_image),
    "layer": Reader(read=read_image_layer, refusals=(InvalidSubmission, *DAMAGE), mend=mend_tar),
    "image_config": Reader(read=read_image_config, refusals=(ValidationError,)),
    "tournament": Reader(read=read_tournament, refusals=(InvalidConfig,)),
    "images_csv": Reader(read=read_csv_of_images, refusals=(InvalidConfig,)),
    "weights": Reader(
        read=read_weights_file,
        refusals=(InvalidConfig,),
        imports="advcomp.players.classifier.weights",
    ),
}
