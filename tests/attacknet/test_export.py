"""Exports: ready to play, the same pixels in both formats, and nobody needs torch for ONNX."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from advcomp.attacknet.export import Format, export_checkpoint
from advcomp.attacknet.train import train_attack_network
from advcomp.errors import InvalidConfig
from advcomp.players.datasets import Part, digits
from advcomp.training.checkpoint import load_checkpoint, save_checkpoint
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
SIGN = ("[network]\n", '[network]\noutput = "sign"\nfilter_size = 3\n')
NO_LAYERS = ('widths = [8, 8]\nepsilon = "both"\nembedding = 4\n', "widths = []\n")
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
        [FLOAT32, ONE_STEP, BY_THE_PIXEL, SIGN],
        pytest.param([FLOAT32, ONE_STEP, BY_THE_PIXEL, SIGN, NO_LAYERS], marks=pytest.mark.long),
    ],
    ids=["recurrent hint", "targeted", "gradients by the pixel", "nothing but gradients"],
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


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "x")
    return file.getvalue()


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


WEIGHTS = {"0.weight": torch.zeros(30, 30)}


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "an empty file"),
        (b"no checkpoint", 'a text file, which begins with "no checkpoint"'),
        (b"<!doctype html>", "a web page"),
        (zipped(), "a zip archive without a PyTorch checkpoint, which holds notes.txt"),
        (gzip.compress(b"x", mtime=0), "a gzip archive"),
        (save(WEIGHTS), "a safetensors file, of weights alone"),
        (saved(WEIGHTS), r"a PyTorch file of something else: dict 0\.weight"),
        (saved(torch.zeros(2)), "a PyTorch file of something else: Tensor"),
        (saved([1]), "a PyTorch file of something else: list"),
        (saved(Path("x")), "a pickle that needs other code, which is never run"),
        (saved(WEIGHTS)[:2000], r"a zip archive that is cut off or damaged \(2000 bytes\)"),
    ],
)
def test_a_strange_checkpoint_is_told(content: bytes, got: str, tmp_path: Path) -> None:
    strange = tmp_path / "x.pt"
    strange.write_bytes(content)
    said = rf"x\.pt: expected a checkpoint of `advcomp train`; got {got}.*; name another one in"
    with pytest.raises(InvalidConfig, match=said):
        export_checkpoint(strange, tmp_path / "new", Format.PYTORCH)
    assert not (tmp_path / "new").exists()


def test_weights_that_16_bits_do_not_hold_are_not_exported(toy: Toy, tmp_path: Path) -> None:
    trained = train_attack_network(toy(FLOAT32, ONE_STEP, NO_HINT), SilentObserver(), out=tmp_path)
    kept = load_checkpoint(trained.checkpoint)
    kept.states["average"]["last.bias"][0] = 7e4
    save_checkpoint(tmp_path, kept, 1)
    with pytest.raises(InvalidConfig, match=r"infinity in last\.bias \(1 of"):
        export_checkpoint(trained.checkpoint, tmp_path / "new", Format.PYTORCH)
