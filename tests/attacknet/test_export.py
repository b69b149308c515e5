"""Exports: ready to play, the same pixels in both formats, and nobody needs torch for ONNX."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advcomp.attacknet.export import Format, export_checkpoint
from advcomp.attacknet.train import train_attack_network
from advcomp.errors import InvalidConfig
from advcomp.players.datasets import Part, digits
from advcomp.training.progress import SilentObserver

Toy = Callable[..., Path]

NO_HINT = (
    'mode = "recurrent"\nsurrogate = "c0.safetensors"\nlayers = ["network.0", "network.1"]\n',
    'mode = "none"\n',
)
FLOAT32 = ('precision = "float64"', 'precision = "float32"')
ONE_STEP = ("steps = 4\nbatch_size = 8", "steps = 3\nbatch_size = 8")
BY_THE_PIXEL = (
    NO_HINT[0],
    '[gradients]\ncount = 2\napart = true\nsurrogates = ["c0.safetensors", "c1.safetensors"]\n',
)
RESIDUAL = ("[network]\n", '[network]\noutput = "residual"\n')
AIMED = ("[threat]\n", "[threat]\ntargeted = true\n")
COUNT, MAX_EPSILON = 6, 16

BLOCK_TORCH = "import sys; sys.modules['torch'] = None; sys.modules['advcomp'] = None; "
RUN = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "input_images"
    folder.mkdir()
    images = digits(Part.TOURNAMENT)
    for i in range(COUNT):
        Image.fromarray(images.levels[i]).save(folder / f"{i}.png")
    rows = (f"{i}.png,{(images.labels[i] + 1) % 10}\n" for i in range(COUNT))
    (folder / "target_class.csv").write_text("".join(rows))
    return folder


def played(submission: Path, inputs: Path, form: Format) -> np.ndarray:
    outputs = submission / "output_images"
    outputs.mkdir()
    program = (BLOCK_TORCH if form is Format.ONNX else "import sys; ") + RUN
    command = [sys.executable, "-c", program, str(submission / "run_attack.py")]
    subprocess.run([*command, str(inputs), str(outputs), str(MAX_EPSILON)], check=True)
    return np.stack([np.array(Image.open(outputs / f"{i}.png")) for i in range(COUNT)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        [FLOAT32, ONE_STEP],
        [FLOAT32, ONE_STEP, NO_HINT, AIMED],
        [FLOAT32, ONE_STEP, BY_THE_PIXEL, RESIDUAL],
    ],
    ids=["recurrent hint", "targeted", "gradients by the pixel"],
)
def test_both_formats_give_the_same_pixels_within_the_budget(
    changes: list[tuple[str, str]], toy: Toy, inputs: Path, tmp_path: Path
) -> None:
    trained = train_attack_network(toy(*changes), SilentObserver(), out=tmp_path / "run")
    checkpoint = trained.checkpoint
    clean = np.stack([np.array(Image.open(inputs / f"{i}.png")) for i in range(COUNT)])
    found = {}
    for form in Format:
        folder = tmp_path / form
        files = export_checkpoint(checkpoint, folder, form).files
        assert set(files) == set(folder.iterdir())
        metadata = json.loads((folder / "metadata.json").read_text())
        assert metadata["type"] == ("targeted_attack" if AIMED in changes else "attack")
        assert (folder / "train.toml").read_text() == (tmp_path / "train.toml").read_text()
        for line in (folder / "SHA256SUMS").read_text().splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        found[form] = played(folder, inputs, form)
    pytorch, onnx = found[Format.PYTORCH], found[Format.ONNX]
    for images in found.values():
        assert 0 < np.abs(images.astype(int) - clean).max() <= MAX_EPSILON
    assert (pytorch != onnx).mean() <= 0.001


@pytest.mark.parametrize("content", [b"", b"no checkpoint", torch.zeros(2), [1], {"about": 3}])
def test_a_strange_checkpoint_is_refused(content: object, tmp_path: Path) -> None:
    strange = tmp_path / "x.pt"
    if isinstance(content, bytes):
        strange.write_bytes(content)
    else:
        torch.save(content, strange)
    with pytest.raises(InvalidConfig, match="expected a checkpoint of `advcomp train`"):
        export_checkpoint(strange, tmp_path / "new", Format.PYTORCH)
    assert not (tmp_path / "new").exists()
