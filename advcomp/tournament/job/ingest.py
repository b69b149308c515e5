"""What a submission left behind, made into arrays: the only reader of hostile output.

Files are read by expected name through the box's output descriptor, regular files only and capped
in size. Headers are checked before anything is decoded; decoding happens in a box of its own,
whose answer is an array of the exact length. Should a file kill the decoder, that file is invalid
and decoding goes on behind it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.decode import pack_blobs
from advcomp.rules.decoded import Decoded, read_answer
from advcomp.rules.faults import Fault, InvalidPng, Reason
from advcomp.rules.png import check_header, max_png_bytes
from advcomp.rules.predictions import label_faults, parse_predictions
from advcomp.sandbox.base import Limits, OutputFolder, RunSpec, Sandbox
from advcomp.tournament.job.staging import Staging

CHUNK_BYTES = 32 << 20
"""Pixels, and bytes of files, decoded at once: what the referee holds of one attack."""

NAMES_LISTED = 1000
RESULT_CSV = "result.csv"


def csv_cap(images: int) -> int:
    """Bytes of result.csv that are accepted: ample for any honest file."""
    return (1 << 20) + 1024 * images


def images_at_once(height: int, width: int) -> int:
    """Images of this size that one box decodes."""
    return max(1, CHUNK_BYTES // (height * width * 3))


@dataclass(frozen=True, slots=True)
class Ingest:
    """Reads outputs with the help of a box for the decoder.

    Args:
        reasons: Filled by `images`: position of each invalid image -> why it is invalid.
    """

    sandbox: Sandbox
    staging: Staging
    reasons: dict[int, Reason] = field(default_factory=dict)

    def images(
        self, output: OutputFolder, names: Sequence[str], height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (position in `names`, uint8 (H, W, 3)) of every valid image.

        Args:
            names: Expected file names without `.png`.
        """
        for blobs in _chunked(self._well_headed(output, names, height, width), height, width):
            yield from self._decode(blobs, height, width)

    def _decode(
        self, blobs: Mapping[int, bytes], height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        waiting = list(blobs)
        while waiting:
            with self.staging.folder() as folder:
                decoded = self._run_decoder(
                    folder, [blobs[position] for position in waiting], height, width
                )
            reached = zip(waiting, decoded.valid, decoded.pixels, strict=False)
            yield from ((position, pixels) for position, valid, pixels in reached if valid)
            for position, fault in zip(waiting, (*decoded.faults, Fault.UNDECODED), strict=False):
                if fault is not None:
                    self.reasons[position] = Reason(fault)
            waiting = waiting[len(decoded.valid) + 1 :]

    def _well_headed(
        self, output: OutputFolder, names: Sequence[str], height: int, width: int
    ) -> Iterator[tuple[int, bytes]]:
        there = frozenset(output.names(NAMES_LISTED + len(names)))
        for position, name in enumerate(names):
            file = f"{name}.png"
            data = output.read(file, max_png_bytes(height, width))
            if data is None:
                self.reasons[position] = Reason(Fault.NO_FILE if file in there else Fault.ABSENT)
                continue
            try:
                check_header(data, height, width)
            except InvalidPng as error:
                self.reasons[position] = error.reason
            else:
                yield position, data

    def _run_decoder(
        self, folder: Path, blobs: Sequence[bytes], height: int, width: int
    ) -> Decoded:
        packed = folder / "images"
        with packed.open("wb") as file:
            pack_blobs(blobs, file)
        size = len(blobs) * height * width * 3
        command = ("python3", "-m", "advcomp.rules.decode", "/images", "/decoded")
        spec = RunSpec(
            argv=(*command, str(height), str(width)),
            limits=Limits(
                wall_s=60 + len(blobs),
                memory_bytes=(1 << 30) + 4 * size,
                output_bytes=2 * size + (1 << 20),
                pids=64,
            ),
            inputs={"/images": packed},
            output="/decoded",
        )
        with self.sandbox.run(spec) as run:
            return read_answer(
                run.output.read("valid", len(blobs)),
                run.output.read("pixels", size),
                count=len(blobs),
                height=height,
                width=width,
            )


def read_labels(output: OutputFolder, names: Sequence[str]) -> NDArray[np.int16]:
    """The labels in `result.csv` for `names`, int16, -1 where there is none."""
    data = output.read(RESULT_CSV, csv_cap(len(names)))
    return parse_predictions(data or b"", names)


def label_reasons(output: OutputFolder, names: Sequence[str]) -> list[Reason]:
    """Why those of `names` that have no label in `result.csv` have none."""
    data = output.read(RESULT_CSV, csv_cap(len(names)))
    if data is None:
        return [Reason(Fault.NO_RESULT)] * len(names)
    return [Reason(fault) for fault in label_faults(data, names) if fault is not None]


def unexpected(output: OutputFolder, expected: set[str]) -> tuple[str, ...]:
    """Names in the folder that nobody asked for, at most `NAMES_LISTED`."""
    there = output.names(NAMES_LISTED + len(expected))
    return tuple(name for name in there if name not in expected)[:NAMES_LISTED]


def _chunked(
    blobs: Iterable[tuple[int, bytes]], height: int, width: int
) -> Iterator[dict[int, bytes]]:
    """As many files at a time as fit: a PNG may be far larger than its pixels."""
    most = images_at_once(height, width)
    chunk: dict[int, bytes] = {}
    room = CHUNK_BYTES
    for position, data in blobs:
        if chunk and (len(chunk) == most or len(data) > room):
            yield chunk
            chunk, room = {}, CHUNK_BYTES
        chunk[position] = data
        room -= len(data)
    if chunk:
        yield chunk
