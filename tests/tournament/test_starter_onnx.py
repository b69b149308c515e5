"""The starter that runs an ONNX model: what it answers, and what it says where it cannot."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from support.brightness_model import brightness_model

from advcomp.cli import main

pytestmark = pytest.mark.slow

Levels = NDArray[np.uint8]


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    folder = tmp_path / "starter"
    result = CliRunner().invoke(main, ["init", "defense", str(folder), "--template", "onnx"])
    assert result.exit_code == 0
    (tmp_path / "in").mkdir()
    return folder


def flat(*colour: int, size: tuple[int, int] = (6, 8)) -> Levels:
    return np.full((*size, 3), colour, np.uint8)


def change(starter: Path, **settings: object) -> None:
    """Give keys of model.toml other values; None takes the key away."""
    lines = (starter / "model.toml").read_text().splitlines()
    for key, value in settings.items():
        lines = [line for line in lines if not line.startswith(f"{key} =")]
        lines += [] if value is None else [f"{key} = {json.dumps(value)}"]
    (starter / "model.toml").write_text("\n".join(lines))


def put_model(
    starter: Path,
    *nodes: onnx.NodeProto,
    shape: tuple[int | str, ...] = ("n", 3, "h", "w"),
    kind: int = TensorProto.FLOAT,
    answers: int | None = None,
    more_inputs: tuple[str, ...] = (),
) -> None:
    """A model of nodes from "images" to "scores"."""
    inputs = [
        helper.make_tensor_value_info(name, kind, shape) for name in ("images", *more_inputs)
    ]
    outputs = [helper.make_tensor_value_info("scores", kind if answers is None else answers, None)]
    graph = helper.make_graph(nodes, "test", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (starter / "model.onnx").write_bytes(model.SerializeToString())


def channel_means(*axes: int) -> onnx.NodeProto:
    return helper.make_node("ReduceMean", ["images"], ["scores"], axes=axes, keepdims=0)


def run(starter: Path, *images: Levels) -> "subprocess.CompletedProcess[str]":
    inputs = starter.with_name("in")
    for number, levels in enumerate(images):
        Image.fromarray(levels).save(inputs / f"{number:02d}.png")
    command = ["./run_defense.sh", str(inputs), str(starter.with_name("result.csv"))]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(
        command, cwd=starter, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def written(starter: Path) -> list[int]:
    """The labels in the result, which must be in order and have every name."""
    rows = [row.split(",") for row in starter.with_name("result.csv").read_text().splitlines()]
    assert [name for name, _ in rows] == [f"{number:02d}.png" for number in range(len(rows))]
    return [int(label) for _, label in rows]


def labels(starter: Path, *images: Levels) -> list[int]:
    done = run(starter, *images)
    assert done.returncode == 0, done.stderr
    return written(starter)


def refusal(starter: Path) -> str:
    """What it says, in one piece and without a traceback, where it refuses."""
    done = run(starter, flat(1, 2, 3))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_model_is_what_the_recipe_makes(starter: Path) -> None:
    assert (starter / "model.onnx").read_bytes() == brightness_model()
    onnx.checker.check_model(onnx.load(starter / "model.onnx"), full_check=True)


def test_it_brings_the_files_that_a_defense_needs(starter: Path) -> None:
    files = {str(path.relative_to(starter)) for path in starter.rglob("*") if path.is_file()}
    assert files == {
        *("Dockerfile", "README.md", "metadata.json", "model.onnx", "model.toml"),
        *("run_defense.py", "run_defense.sh", "tests/test_defense.py"),
    }


def test_neither_its_program_nor_its_image_has_torch(starter: Path) -> None:
    tree = ast.parse((starter / "run_defense.py").read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "PIL", "onnxruntime"}
    (install,) = re.findall(r"pip install (.*)", (starter / "Dockerfile").read_text())
    assert install == "--no-cache-dir numpy pillow onnxruntime"


def test_it_tells_ten_levels_of_brightness_apart(starter: Path) -> None:
    greys = [round(255 * (c + 0.5) / 10) for c in range(10)]
    assert labels(starter, *(flat(grey, grey, grey) for grey in greys)) == list(range(10))


def test_labels_begin_at_the_offset(starter: Path) -> None:
    change(starter, label_offset=32757)
    assert labels(starter, flat(0, 0, 0), flat(255, 255, 255)) == [32757, 32766]


@pytest.mark.parametrize(
    ("layout", "axes", "shape"),
    [("NCHW", (2, 3), ("n", 3, "h", "w")), ("NHWC", (1, 2), ("n", "h", "w", 3))],
)
@pytest.mark.parametrize(("channels", "expected"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_axes_and_channels_are_ordered_as_the_model_takes_them(
    starter: Path,
    layout: str,
    axes: tuple[int, ...],
    shape: tuple[int | str, ...],
    channels: str,
    expected: list[int],
) -> None:
    put_model(starter, channel_means(*axes), shape=shape)
    change(starter, layout=layout, channels=channels)
    assert labels(starter, flat(9, 0, 0), flat(0, 9, 0), flat(0, 0, 9)) == expected


def test_images_are_normalised_in_the_models_order(starter: Path) -> None:
    put_model(starter, channel_means(2, 3))
    grey = flat(102, 102, 102)
    change(starter, mean=[0.5, 0.3, 0.4])
    assert labels(starter, grey) == [1]
    change(starter, channels="BGR", mean=[0.0, 0.0, 0.0], std=[1, 2, 0.5])
    assert labels(starter, grey) == [2]
    change(starter, channels="RGB", mean=[-4, 0, 0.4], std=[10, 0.5, 1])
    assert labels(starter, grey) == [1], "the mean goes off before the division"


def test_a_model_of_fixed_sizes_gets_them(starter: Path) -> None:
    """Six images in batches of four, of another size, the last filled up."""
    put_model(starter, channel_means(2, 3), shape=(4, 3, 2, 10))
    change(starter, size=[2, 10], batch_size=4, resize="nearest")
    colours = [(9, 0, 0), (0, 9, 0), (0, 0, 9)] * 2
    assert labels(starter, *(flat(*colour) for colour in colours)) == [0, 1, 2, 0, 1, 2]


def test_labels_are_on_disk_before_the_next_batch_is_read(starter: Path) -> None:
    change(starter, batch_size=2)
    inputs, result = starter.with_name("in"), starter.with_name("result.csv")
    for number, level in enumerate((0, 255)):
        Image.fromarray(flat(level, level, level)).save(inputs / f"{number:02d}.png")
    os.mkfifo(inputs / "02.png")
    command = [sys.executable, str(starter / "run_defense.py"), str(inputs), str(result)]
    with subprocess.Popen(command) as running, (inputs / "02.png").open("wb"):
        # The pipe opened: the program asks for the third image.
        assert written(starter) == [0, 9]
        running.kill()


def test_a_folder_without_images_gives_an_empty_result(starter: Path) -> None:
    assert labels(starter) == []


def test_everything_wrong_with_the_settings_is_told_at_once(starter: Path) -> None:
    change(starter, layout="CHW", size=[32], mean=[0, 0], std=[1, 1, 0], label_offset=-1)
    change(starter, batch_size=True, resize=None, channels="rgb", sise=[1, 2])
    assert refusal(starter).splitlines() == [
        "model.toml: no key is called sise",
        'model.toml: layout: expected "NCHW" or "NHWC"; got \'CHW\'',
        'model.toml: channels: expected "RGB" or "BGR"; got \'rgb\'',
        "model.toml: size: expected [height, width] in pixels, or []; got [32]",
        'model.toml: resize: missing; expected "nearest", "bilinear", "bicubic" or "lanczos"',
        "model.toml: mean: expected three numbers; got [0, 0]",
        "model.toml: std: expected three numbers, none of them 0; got [1, 1, 0]",
        "model.toml: label_offset: expected an integer, at least 0; got -1",
        "model.toml: batch_size: expected an integer, at least 1; got True",
    ]


def test_settings_that_are_no_toml_are_refused(starter: Path) -> None:
    (starter / "model.toml").write_text("layout = NCHW")
    assert refusal(starter).startswith("model.toml: expected a readable TOML file: ")
    (starter / "model.toml").unlink()
    assert refusal(starter).startswith("model.toml: expected a readable TOML file: ")


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (None, "nothing to read: No such file or directory"),
        (b"", "an empty file; get it again"),
        (b"\x80\x04.", "a pickle; see torch.onnx.export"),
        (
            b"PK\x03\x04",
            "a zip archive, or PyTorch's own file; unpack it, or see torch.onnx.export",
        ),
        (b"\x1f\x8b\x08", "a gzip archive; unpack it"),
        (b"\n<!DOCTYPE html>", "a web page; download the file itself, by its link to raw content"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer that stands for it; git lfs pull",
        ),
        (b"Not Found\n", "a text file, which begins with 'Not Found\\n'"),
    ],
)
def test_a_file_that_is_no_model_is_told_by_its_first_bytes(
    starter: Path, content: bytes | None, got: str
) -> None:
    (starter / "model.onnx").unlink()
    if content is not None:
        (starter / "model.onnx").write_bytes(content)
    assert refusal(starter) == f"model.onnx: expected an ONNX model; got {got}\n"


def test_half_a_model_is_refused(starter: Path) -> None:
    whole = (starter / "model.onnx").read_bytes()
    (starter / "model.onnx").write_bytes(whole[: len(whole) // 2])
    assert refusal(starter).startswith(
        "model.onnx: expected a model that onnxruntime can run; it may be cut off "
        f"({len(whole) // 2} bytes), newer"
    )


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        (TensorProto.FLOAT, 1.0),
        (TensorProto.FLOAT16, 1.0),
        (TensorProto.DOUBLE, 1.0),
        (TensorProto.UINT8, 255.0),
    ],
)
def test_images_are_cast_to_what_the_model_takes(starter: Path, kind: int, scale: float) -> None:
    """Scores are b and 10 b - 4 for a brightness b from 0 to 1: equal at 4 / 9, a level of 113."""
    constants = [
        helper.make_node(
            "Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [2], values)
        )
        for name, values in (("slopes", [1 / scale, 10 / scale]), ("offsets", [0.0, -4.0]))
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["brightness"], axes=[1, 2, 3]),
        helper.make_node("Flatten", ["brightness"], ["column"]),
        helper.make_node("Mul", ["column", "slopes"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offsets"], ["scores"]),
    ]
    put_model(starter, *constants, *nodes, kind=kind, answers=TensorProto.FLOAT)
    assert labels(starter, flat(90, 90, 90), flat(140, 140, 140)) == [0, 1]


def test_levels_of_another_scale_are_refused(starter: Path) -> None:
    cast = helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT)
    means = helper.make_node("ReduceMean", ["floats"], ["scores"], axes=[2, 3], keepdims=0)
    put_model(starter, cast, means, kind=TensorProto.UINT8, answers=TensorProto.FLOAT)
    change(starter, std=[1 / 255] * 3)
    assert labels(starter, flat(0, 9, 0)) == [1]
    change(starter, mean=[0.5, 0.5, 0.5])
    assert "expected mean 0 and std 1 or 0.00392156862745098 in model.toml" in refusal(starter)


@pytest.mark.parametrize("node", ["Log", "Sqrt", "Reciprocal"])
def test_an_answer_that_is_no_number_is_refused(starter: Path, node: str) -> None:
    """Of one image of two; its label would be the first class, whatever it shows."""
    shift = helper.make_node(
        "Constant", [], ["shift"], value=helper.make_tensor("s", TensorProto.FLOAT, [1], [0.1])
    )
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["means", "shift"], ["shifted"]),
        helper.make_node("Relu" if node == "Reciprocal" else "Identity", ["shifted"], ["input"]),
        helper.make_node(node, ["input"], ["scores"]),
    ]
    put_model(starter, shift, *nodes)
    change(starter, batch_size=2)
    done = run(starter, flat(200, 100, 100), flat(0, 0, 0))
    assert done.returncode == 1
    assert "expected finite numbers; got NaN or infinity for 1 of 2 images" in done.stderr
    assert "Traceback" not in done.stderr
    assert written(starter) == []


def test_a_model_of_one_output_is_refused(starter: Path) -> None:
    put_model(
        starter,
        helper.make_node("ReduceMean", ["images"], ["m"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m"], ["scores"]),
    )
    assert "at least two classes; got one output; of a probability p give two" in refusal(starter)


def test_a_model_that_takes_something_else_is_refused(starter: Path) -> None:
    add = helper.make_node("Add", ["images", "masks"], ["scores"])
    put_model(starter, add, more_inputs=("masks",))
    assert refusal(starter) == "model.onnx: expected one input, the images; got images, masks\n"
    cast = helper.make_node("Cast", ["images"], ["scores"], to=TensorProto.FLOAT)
    put_model(starter, cast, kind=TensorProto.INT64, answers=TensorProto.FLOAT)
    assert refusal(starter).endswith("tensor(double), tensor(uint8); got tensor(int64)\n")
    for shape in (("n", 3, 32, 32), (7, 3, "h", "w"), ("n", 3, "pixels")):
        put_model(starter, channel_means(2), shape=shape)
        assert "got images of [50, 3, 6, 8]; set layout, size and batch_size" in refusal(starter)


def test_a_model_that_gives_something_else_is_refused(starter: Path) -> None:
    put_model(starter, channel_means(1))
    assert refusal(starter) == (
        "model.onnx: expected a first output of the shape [images, classes]; "
        "got [50, 6, 8] for 50 images\n"
    )
    put_model(starter, channel_means(0, 1))
    assert "got [6, 8] for 50 images" in refusal(starter)
    put_model(starter, channel_means(2, 3))
    change(starter, label_offset=32765)
    assert "labels up to 32766; got 3 classes and label_offset 32765" in refusal(starter)


def test_a_graph_that_stops_while_it_runs_is_refused(starter: Path) -> None:
    """Its shapes fit, as far as the file tells; the node that fails is named."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 7])
    put_model(
        starter,
        helper.make_node("Constant", [], ["rows_of_seven"], value=shape),
        helper.make_node("Reshape", ["images", "rows_of_seven"], ["scores"], name="to_rows"),
    )
    change(starter, batch_size=1)
    told = refusal(starter)
    assert "model.onnx: expected to run on float32 images of [1, 3, 6, 8]; onnxrun" in told
    assert "to_rows" in told
    assert "set size and batch_size in model.toml" in told


def test_weights_in_a_file_that_is_not_there_are_named(starter: Path) -> None:
    model = onnx.load_from_string((starter / "model.onnx").read_bytes())
    weights = next(each for each in model.graph.initializer if each.raw_data)
    weights.data_location = TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    weights.external_data.add(key="location", value="weights.bin")
    (starter / "model.onnx").write_bytes(model.SerializeToString())
    told = refusal(starter)
    assert "or keep its weights in a file that must lie beside it" in told
    assert "weights.bin" in told


def test_a_missing_onnxruntime_is_named(starter: Path) -> None:
    (starter / "onnxruntime.py").write_text("raise ModuleNotFoundError")
    assert refusal(starter).startswith("onnxruntime is not installed here; ")


def test_wrong_usage_is_named(starter: Path) -> None:
    command = [sys.executable, str(starter / "run_defense.py"), "only one"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "usage: run_defense.py INPUT_IMAGES RESULT_CSV\n"


def test_an_attack_cannot_begin_from_an_onnx_model(tmp_path: Path) -> None:
    for kind in ("attack", "targeted-attack"):
        result = CliRunner().invoke(main, ["init", kind, str(tmp_path / kind), "--template=onnx"])
        assert result.exit_code == 1
        assert f'expected a defense for the template "onnx"; got {kind}' in result.output
        assert not (tmp_path / kind).exists()
