"""A file that is taken for weights and is none is told by its first bytes, whatever its name."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.weights import fill, not_finite, read_weights
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.denoiser import Denoiser, load_denoiser

STATE = {"0.weight": torch.arange(900.0).reshape(30, 30)}
SAFE = save(STATE)


def pytorch(*, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/notes.txt", "x")
    return file.getvalue()


def arrays() -> bytes:
    """As Google publishes Big Transfer and vision transformers."""
    file = io.BytesIO()
    np.savez(file, kernel=np.zeros(3))
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"))
    return file.getvalue()


STRANGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "got an empty file; get it again"),
    "page": (b"\n <!DOCTYPE html>\n<html>", "got a web page; download the file itself"),
    "page without type": (b"<HTML><head>", "got a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer.*git lfs pull"),
    "text": ("Zugriff verweigert: Größe\n".encode(), 'a text file.*"Zugriff verweigert: Größe"'),
    "answer": (b'{"message": "Not Found"}', 'a text file, which begins with "{"message"'),
    "gzip": (gzip.compress(SAFE), "got a gzip archive; unpack it"),
    "zip": (zipped(), "a zip archive without a PyTorch checkpoint, which holds model/notes.txt"),
    "npz": (arrays(), r"got NumPy arrays \(\.npz\).*; convert it to safetensors"),
    "half a zip": (pytorch()[:2000], r"zip archive that is cut off or damaged \(2000 bytes\)"),
    "tar": (tarred(), "got a tar archive; unpack it"),
    "half a safetensors": (SAFE[:200], f"cut off, 200 of {len(SAFE)} bytes; get it again"),
    "header": (SAFE[:20], "a safetensors file that is cut off, 20 of 80 bytes"),
    "half an old file": (pytorch(zipped=False)[:500], "is cut off or damaged, 500 bytes"),
    "onnx": (b"\x08\x08\x12\x07advcomp:\x00", "got an ONNX model; .* --template onnx"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them"),
    "noise": (bytes(range(200, 256)), "no known kind, which begins with the bytes c8 c9 ca cb"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
@pytest.mark.parametrize("kind", STRANGE)
def test_what_a_file_is_instead_of_weights_is_told(kind: str, suffix: str, tmp_path: Path) -> None:
    content, got = STRANGE[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidConfig, match=rf"weights\{suffix}: expected .*{got}"):
        read_weights(path)


def test_a_program_is_told_from_weights(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", "")
    with pytest.raises(InvalidConfig, match=r"got a TorchScript program; save .* state_dict\(\)"):
        read_weights(path)


@pytest.mark.parametrize("content", [SAFE, pytorch(), pytorch(zipped=False)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
def test_weights_are_read_under_any_name(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert torch.equal(read_weights(path)[0]["0.weight"], STATE["0.weight"])


Loader = Callable[[Path], object]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("made", "load", "name"),
    [
        (Classifier("conv_net", 10), load_classifier, "0.0.weight"),
        (Denoiser(), load_denoiser, "down.0.0.weight"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    made: Classifier | Denoiser, load: Loader, name: str, value: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    made.save(path)
    load(path)
    inner = made.network if isinstance(made, Classifier) else made
    weight = inner.get_parameter(name)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0, 0, :2] = float(value)
    made.save(path)
    with torch.no_grad():
        weight.copy_(kept)
    found = rf"finite weights; got NaN or infinity in {name} \(2 of {weight.numel()}\)"
    with pytest.raises(InvalidConfig, match=found):
        load(path)


def test_an_infinity_that_a_fresh_network_has_too_is_meant(tmp_path: Path) -> None:
    network = torch.nn.Module()
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    save_file({"mask": torch.tensor([1.0, -torch.inf])}, tmp_path / "w.safetensors")
    tensors, _ = read_weights(tmp_path / "w.safetensors")
    fill(network, tensors, tmp_path, classes=3)
    assert network.get_buffer("mask").tolist() == [1.0, -torch.inf]
    assert "mask (1 of 2)" in not_finite(tensors)
