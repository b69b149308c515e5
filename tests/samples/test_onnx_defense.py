"""A network of ours as an ONNX submission: the same labels, in a box in which torch is no more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.boxed_defense import labels_in_a_box, run_in_a_box, write_images

from advcomp.cli import main
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import LabelledImages, Part, digits
from advcomp.players.image.pixels import to_float
from advcomp.sandbox.base import Sandbox

DIGITS = Path(__file__).parents[2] / "tournament" / "digits"
IMAGES, BATCH = 30, 8
LABEL_OFFSET = 5
UNIMPORTABLE = ("torch", "torchvision", "advcomp")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clean() -> LabelledImages:
    return digits(Part.TOURNAMENT)


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """The starter, in which a program finds no torch and no advcomp before it finds ours."""
    folder = tmp_path / "submission"
    result = CliRunner().invoke(main, ["init", "defense", str(folder), "--template", "onnx"])
    assert result.exit_code == 0
    for name in UNIMPORTABLE:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here')\n")
    return folder


def export(classifier: Classifier, network_only: bool, path: Path) -> None:
    """Write the classifier, or its network alone, without its normalisation."""
    torch.onnx.export(
        classifier.network if network_only else classifier,
        (torch.zeros(BATCH, 3, 32, 32),),
        path,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def describe(submission: Path, **settings: object) -> None:
    """Give keys of model.toml other values."""
    path = submission / "model.toml"
    lines = path.read_text().splitlines()
    for key, value in settings.items():
        lines = [line for line in lines if not line.startswith(f"{key} =")]
        lines.append(f"{key} = {json.dumps(value)}")
    path.write_text("\n".join(lines))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("network_only", [False, True], ids=["normalising", "network-only"])
def test_an_exported_network_gives_the_same_labels_without_torch(
    network_only: bool,
    submission: Path,
    clean: LabelledImages,
    sandbox: Sandbox,
    tmp_path: Path,
) -> None:
    classifier = load_classifier(DIGITS / "weights" / "residual_net_b.safetensors")
    export(classifier, network_only, submission / "model.onnx")
    normalised = {"mean": [0.5] * 3, "std": [0.5] * 3} if network_only else {}
    describe(submission, batch_size=BATCH, label_offset=LABEL_OFFSET, **normalised)
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES // 2, 32, 32, 3), dtype=np.uint8)
    levels = np.concatenate([clean.levels[: IMAGES // 2], noise])
    names = write_images(tmp_path / "in", levels)
    expected = classifier(to_float(levels)).argmax(1) + LABEL_OFFSET
    assert len(set(expected.tolist())) > 5
    assert labels_in_a_box(sandbox, submission, tmp_path / "in", names) == expected.tolist()


def test_the_box_really_has_no_torch(submission: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    """The same box stops a program that wants it."""
    program = submission / "run_defense.py"
    program.write_text("import torch\n" + program.read_text())
    write_images(tmp_path / "in", np.zeros((1, 32, 32, 3), np.uint8))
    with run_in_a_box(sandbox, submission, tmp_path / "in") as run:
        assert run.result.exit_code == 1
        assert b"no torch here" in run.result.log
