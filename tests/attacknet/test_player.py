"""An exported network at play refuses what is no export, image or target, and passes no NaN."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save, save_file
from support.attack_cases import NO_IMAGES, images
from torch import Tensor

from advcomp.attacknet.network.model import AttackNetwork, HintLayer, NetworkSpec
from advcomp.attacknet.network.onnx_graph import TARGET_LABELS
from advcomp.attacknet.player import (
    HINT_LAYERS,
    HINT_MODE,
    NETWORK,
    SPEC,
    SURROGATE,
    load_attack,
    load_targeted_attack,
)
from advcomp.attacknet.recipe import EpsilonInput, HintMode, NetworkTable
from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier
from advcomp.players.contract import Attack

EPS = 16 / 255
ENTRY = Path(__file__).parents[2] / "advcomp" / "attacknet" / "entries" / "onnx.py"


def spec(labels: tuple[int, ...] | None = None, hint: tuple[HintLayer, ...] = ()) -> NetworkSpec:
    table = NetworkTable(widths=(8, 8), embedding=4, epsilon=EpsilonInput.BOTH)
    return NetworkSpec(table=table, max_epsilons=(8, 16), target_labels=labels, hint=hint)


def written(folder: Path, network: AttackNetwork, mode: HintMode = HintMode.NONE) -> Path:
    """A submission's folder, as far as its program reads it."""
    layers = ["network.0"] if network.spec.hint else []
    stated = {HINT_MODE: mode, HINT_LAYERS: json.dumps(layers)}
    halves = {name: value.half() for name, value in network.state_dict().items()}
    save_file(halves, folder / NETWORK, {SPEC: network.spec.model_dump_json(), **stated})
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Attack:
    return load_attack(written(tmp_path, AttackNetwork(spec())))


@pytest.mark.parametrize(("clean", "got"), NO_IMAGES)
def test_what_are_no_images_is_refused(clean: Any, got: str, plain: Attack) -> None:
    with pytest.raises(ValueError, match=rf"^images: expected .*\[0, 1\].*{got}"):
        plain(clean, EPS)


def test_a_budget_is_between_0_and_1(plain: Attack) -> None:
    for eps in (16, -0.1, float("nan")):
        for clean in (images(), images(0)):
            with pytest.raises(ValueError, match=r"eps on the \[0, 1\] scale"):
                plain(clean, eps)
    clean = images()
    assert torch.equal(plain(clean, 0), clean)
    assert 0 < float((plain(clean, EPS) - clean).abs().amax()) <= EPS + 1e-6


def test_of_no_images_there_are_none(tmp_path: Path) -> None:
    assert load_attack(written(tmp_path, AttackNetwork(spec())))(images(0), EPS).shape[0] == 0
    aimed = load_targeted_attack(written(tmp_path, AttackNetwork(spec(labels=(1, 2)))))
    assert aimed(images(0), torch.zeros(0, dtype=torch.int64), EPS).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("targets", "got"),
    [
        (torch.tensor([1, 2, 3, 0]), r"1 to 3; got 0; labels may count from 0 or from 1"),
        (torch.tensor([9, 4, 4, 1]), r"1 to 3; got 4, 9;"),
        (torch.tensor([1, 2, 3]), r"integers \(4,\).*got int64 \(3,\)"),
        (torch.tensor([1.0, 2.0, 3.0, 1.0]), r"integers \(4,\).*got float32 \(4,\)"),
    ],
)
def test_targets_that_are_no_labels_of_the_network_are_refused(
    targets: Tensor, got: str, tmp_path: Path
) -> None:
    aimed = load_targeted_attack(written(tmp_path, AttackNetwork(spec(labels=(1, 2, 3)))))
    assert not torch.equal(*(aimed(images(2), torch.tensor(t), EPS) for t in ([1, 2], [2, 3])))
    with pytest.raises(ValueError, match=rf"^targets: expected .*{got}"):
        aimed(images(), targets, EPS)


def test_a_network_plays_the_part_that_it_was_trained_for(tmp_path: Path) -> None:
    written(tmp_path, AttackNetwork(spec()))
    with pytest.raises(InvalidConfig, match="that aims at labels; got one that does not"):
        load_targeted_attack(tmp_path)
    written(tmp_path, AttackNetwork(spec(labels=(0, 1))))
    with pytest.raises(InvalidConfig, match="aims at no label; got one that does"):
        load_attack(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_no_numbers_are_refused(value: str, tmp_path: Path) -> None:
    network = AttackNetwork(spec())
    network.last.weight.data[0, 0, 0, :2] = float(value)
    with pytest.raises(InvalidConfig, match=r"NaN or infinity in last\.weight \(2 of"):
        load_attack(written(tmp_path, network))


def test_pixels_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    """Weights may be finite, and too large; rounded to levels, the pixels would be black."""
    surrogate = Classifier("conv_net", 10)
    for parameter in surrogate.parameters():
        parameter.data.fill_(torch.finfo(torch.float32).max)
    surrogate.save(tmp_path / SURROGATE)
    network = AttackNetwork(spec(hint=(HintLayer(channels=32, level=0),)))
    run = load_attack(written(tmp_path, network, HintMode.ONE))
    with pytest.raises(ValueError, match="expected numbers for all pixels of 4 images; got NaN"):
        run(images(side=32), EPS)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer.*git lfs pull"),
        (save({"a": torch.zeros(1)}), "does not say its spec, hint_mode, hint_layers"),
        (save({"a": torch.zeros(1)}, {SPEC: "{}", HINT_MODE: "none", HINT_LAYERS: "[]"}), "table"),
    ],
)
def test_a_file_that_is_no_export_is_told(content: bytes, got: str, tmp_path: Path) -> None:
    (tmp_path / NETWORK).write_bytes(content)
    with pytest.raises(InvalidConfig, match=rf"(?s)network\.safetensors: expected .*{got}"):
        load_attack(tmp_path)


def graph(path: Path, labels: tuple[int, ...]) -> None:
    """One that gives an image as it is, and NaN where eps is 0."""
    shape = [1, 3, 8, 8]
    inputs = {"clean": (TensorProto.FLOAT, shape), "eps": (TensorProto.FLOAT, [1])}
    if labels:
        inputs["targets"] = (TensorProto.INT64, [1])
    made = helper.make_graph(
        [
            helper.make_node("Div", ["eps", "eps"], ["one"]),
            helper.make_node("Mul", ["clean", "one"], ["adversarial"]),
        ],
        "attack",
        [helper.make_tensor_value_info(name, *given) for name, given in inputs.items()],
        [helper.make_tensor_value_info("adversarial", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {TARGET_LABELS: json.dumps(labels)})
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("side", "target", "max_epsilon", "said"),
    [
        (8, 3, 16, ""),
        (9, 3, 16, "a.png: expected 8x8, as network.onnx was exported for; got 9x9"),
        (8, 4, 16, "a.png: expected a target among [1, 2, 3]; got 4"),
        (8, 3, 0, "a.png: expected numbers for all pixels; network.onnx gives NaN"),
    ],
)
def test_the_program_for_onnxruntime_refuses_as_much(
    side: int, target: int, max_epsilon: int, said: str, tmp_path: Path
) -> None:
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
    levels = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "input" / "a.png")
    (tmp_path / "input" / "target_class.csv").write_text(f"a.png,{target}\n")
    graph(tmp_path / "network.onnx", labels=(1, 2, 3))
    program = shutil.copy(ENTRY, tmp_path / "run_attack.py")
    done = subprocess.run(
        [sys.executable, program, tmp_path / "input", tmp_path / "output", str(max_epsilon)],
        capture_output=True,
        text=True,
        check=False,
    )
    made = tmp_path / "output" / "a.png"
    assert (done.stderr.strip(), made.exists()) == (said, not said)
    if not said:
        assert np.array_equal(np.asarray(Image.open(made)), levels)
