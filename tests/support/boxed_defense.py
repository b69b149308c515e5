"""A defense's folder, run by its entry point in a real box."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcomp.rules.predictions import parse_predictions
from advcomp.sandbox.base import BoxRun, Limits, RunSpec, Sandbox


def write_images(folder: Path, levels: NDArray[np.uint8]) -> list[str]:
    """Write images (N, H, W, 3) into a new folder; their names without extension, in order."""
    folder.mkdir()
    names = [f"{number:02d}" for number in range(len(levels))]
    for name, image in zip(names, levels, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    return names


def run_in_a_box(sandbox: Sandbox, submission: Path, inputs: Path) -> BoxRun:
    return sandbox.run(
        RunSpec(
            argv=("./run_defense.sh", "/input_images", "/output_data/result.csv"),
            limits=Limits(wall_s=600, memory_bytes=2 << 30),
            code=submission,
            inputs={"/input_images": inputs},
            output="/output_data",
        )
    )


def labels_in_a_box(
    sandbox: Sandbox, submission: Path, inputs: Path, names: Sequence[str]
) -> list[int]:
    with run_in_a_box(sandbox, submission, inputs) as run:
        assert run.result.exit_code == 0, run.result.log.decode()
        result = run.output.read("result.csv", 1 << 20)
    assert result is not None
    return [int(label) for label in parse_predictions(result, names)]
