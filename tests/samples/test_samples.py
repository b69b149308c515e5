"""Every sample is run for real, by its entry point, as the contract says (without a sandbox)."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from advcomp.players.datasets import LabelledImages, Part, digits
from advcomp.players.ensemble import load_ensemble
from advcomp.players.image.pixels import to_float

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "tournament" / "digits"

ENTRIES = tomllib.loads((DIGITS / "digits.toml").read_text())["entries"]
FILES: dict[str, dict[str, str]] = {
    entry["path"].removeprefix("../../"): entry.get("files", {})
    for entry in ENTRIES["attacks"] + ENTRIES["defenses"]
}
"""What the digits tournament lays over each sample: inside path -> path beside digits.toml."""

FILES |= {
    "attacks/library": {"surrogate.safetensors": "weights/conv_net_a.safetensors"},
    "attacks/targeted_library": {"surrogate.safetensors": "weights/conv_net_a.safetensors"},
    "attacks/tsail_2017": {
        "surrogate_1.safetensors": "weights/conv_net_a.safetensors",
        "surrogate_adversarial.safetensors": "weights/residual_net_a.safetensors",
    },
    "attacks/targeted_tsail_2017": {
        "surrogate_plain.safetensors": "weights/conv_net_a.safetensors",
        "surrogate_robust.safetensors": "weights/residual_net_a.safetensors",
        "surrogate_1.safetensors": "weights/mlp_mixer_a.safetensors",
    },
    "defenses/library": {"classifier.safetensors": "weights/residual_net_b.safetensors"},
    "defenses/denoiser": {
        "classifier.safetensors": "weights/residual_net_b.safetensors",
        "denoiser.safetensors": "weights/denoisers/residual_net_b.safetensors",
    },
}
"""Those that play elsewhere are tried here with the same weights."""

ATTACKS = [sample for sample in FILES if sample.startswith("attacks/")]
TARGETED = [sample for sample in ATTACKS if sample.startswith("attacks/targeted")]
DEFENSES = [sample for sample in FILES if sample.startswith("defenses/")]
SAMPLES = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/metadata.json"))

COUNT = 30
MAX_EPSILON = 16

Levels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clean() -> LabelledImages:
    return digits(Part.TOURNAMENT)


@pytest.fixture(scope="module")
def inputs(clean: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty digits, and again under names that sort the other way round, with their targets."""
    folder = tmp_path_factory.mktemp("input_images")
    lines = []
    for i in range(COUNT):
        for name in (first_name(i), second_name(i)):
            Image.fromarray(clean.levels[i]).save(folder / name)
            lines.append(f"{name},{target(clean, i)}\n")
    (folder / "target_class.csv").write_text("".join(lines))
    return folder


def first_name(i: int) -> str:
    return f"a{i:02d}.png"


def second_name(i: int) -> str:
    return f"b{COUNT - i:02d}.png"


def target(clean: LabelledImages, i: int) -> int:
    return int(clean.labels[i] + 1) % 10


def run(sample: str, folder: Path, *arguments: str | Path) -> None:
    code = folder / "code"
    shutil.copytree(ROOT / sample, code)
    for inside, outside in FILES[sample].items():
        shutil.copy(DIGITS / outside, code / inside)
    entry = json.loads((code / "metadata.json").read_text())["entry_point"]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([f"./{entry}", *map(str, arguments)], cwd=code, env=environment, check=True)


@dataclass(frozen=True)
class Attacked:
    """What an attack left: its code, with surrogates, and its images by their names."""

    code: Path
    images: dict[str, Levels]


@pytest.fixture(scope="module")
def attacked(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Attacked]:
    """Runs a sample when it is first asked for."""

    @cache
    def ran(sample: str) -> Attacked:
        folder: Path = tmp_path_factory.mktemp("attacked")
        output = folder / "output_images"
        output.mkdir()
        run(sample, folder, inputs, output, str(MAX_EPSILON))
        images = {path.name: np.array(Image.open(path)) for path in output.iterdir()}
        return Attacked(folder / "code", images)

    return ran


def labelled(sample: str, folder: Path, inputs: Path) -> dict[str, int]:
    run(sample, folder, inputs, folder / "result.csv")
    lines = (folder / "result.csv").read_text().splitlines()
    return {name: int(label) for name, label in (line.split(",") for line in lines)}


def test_every_sample_is_tried() -> None:
    assert sorted(FILES) == SAMPLES


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_has_an_executable_entry_point_and_no_weights(sample: str) -> None:
    metadata = json.loads((ROOT / sample / "metadata.json").read_text())
    assert metadata["container"] == "advcomp/runtime"
    assert os.access(ROOT / sample / metadata["entry_point"], os.X_OK)
    assert not list((ROOT / sample).glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("sample", ATTACKS)
def test_an_attack_writes_every_image_within_its_budget_whatever_its_name(
    sample: str, attacked: Callable[[str], Attacked], clean: LabelledImages
) -> None:
    images = attacked(sample).images
    assert len(images) == 2 * COUNT
    moved = []
    for i in range(COUNT):
        first, second = images[first_name(i)], images[second_name(i)]
        np.testing.assert_array_equal(first, second)
        moved.append(np.abs(first.astype(int) - clean.levels[i]).max())
    assert set(moved) == ({0} if sample == "attacks/noop" else {MAX_EPSILON})


@pytest.mark.slow
@pytest.mark.parametrize("sample", TARGETED)
def test_a_targeted_attack_leads_its_surrogates_to_the_target(
    sample: str, attacked: Callable[[str], Attacked], clean: LabelledImages
) -> None:
    left = attacked(sample)
    surrogate = load_ensemble(left.code, {"surrogate*": 1.0})
    adversarial = to_float(np.stack([left.images[first_name(i)] for i in range(COUNT)]))
    before, after = (
        surrogate(x).softmax(1)[range(COUNT), [target(clean, i) for i in range(COUNT)]]
        for x in (to_float(clean.levels[:COUNT]), adversarial)
    )
    assert (after > before).all()


@pytest.mark.slow
@pytest.mark.parametrize("sample", DEFENSES)
def test_a_defense_labels_every_image_by_its_pixels_alone(
    sample: str, inputs: Path, clean: LabelledImages, tmp_path: Path
) -> None:
    labels = labelled(sample, tmp_path, inputs)
    assert len(labels) == 2 * COUNT
    first = [labels[first_name(i)] for i in range(COUNT)]
    assert first == [labels[second_name(i)] for i in range(COUNT)]
    assert np.mean(first == clean.labels[:COUNT]) >= 0.9


def test_noop_is_shell_only_and_random_noise_needs_numpy_and_pillow_only() -> None:
    assert not list((ROOT / "attacks/noop").glob("*.py"))
    tree = ast.parse((ROOT / "attacks/random_noise/run_attack.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports}
    assert modules - set(sys.stdlib_module_names) == {"numpy", "PIL"}
