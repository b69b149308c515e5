"""Every defense of the library as a submission: what it answers in a box is what it should."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.boxed_defense import labels_in_a_box, write_images

from advcomp.players.datasets import Part, digits
from advcomp.players.defense_catalogue import DEFENSES, load_defense, parameters_of
from advcomp.players.image.pixels import to_float
from advcomp.sandbox.base import Sandbox

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "defenses" / "library"
WEIGHTS = ROOT / "tournament" / "digits" / "weights" / "residual_net_b.safetensors"

pytestmark = pytest.mark.slow


IN_EACH_LIBRARY = {"median_filter", "jpeg", "wavelet", "random_barrage", "smoothed"}
"""One of what loads SciPy's filters, Pillow's JPEG, scikit-image, all of these, and statistics."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in IN_EACH_LIBRARY else pytest.mark.long) for n in DEFENSES],
)
def test_a_defense_of_the_library_answers_in_a_box_as_in_process(
    name: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Each image twice, in an order that makes its neighbours others."""
    submission = Path(shutil.copytree(SAMPLE, tmp_path / "submission"))
    shutil.copy(WEIGHTS, submission / "classifier.safetensors")
    few = "parameters = { draws = 3 }" if "draws" in parameters_of(DEFENSES[name]) else ""
    (submission / "defense.toml").write_text(f'defense = "{name}"\n{few}\n')
    clean = digits(Part.TOURNAMENT)
    levels = np.concatenate([clean.levels[:10], clean.levels[:10][::-1]])
    names = write_images(tmp_path / "in", levels)
    labels = labels_in_a_box(sandbox, submission, tmp_path / "in", names)
    assert labels[:10] == labels[:9:-1]
    assert labels[:10] == load_defense(submission).labels(to_float(levels[:10])).tolist()


def test_the_sample_stands_as_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    submission = Path(shutil.copytree(SAMPLE, tmp_path / "submission"))
    shutil.copy(WEIGHTS, submission / "classifier.safetensors")
    clean = digits(Part.TOURNAMENT)
    names = write_images(tmp_path / "in", clean.levels[:10])
    labels = labels_in_a_box(sandbox, submission, tmp_path / "in", names)
    assert np.mean(labels == clean.labels[:10]) >= 0.9
