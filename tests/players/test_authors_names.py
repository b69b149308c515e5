"""Weights under the names of a network's authors are taken wherever timm takes them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier, load_classifier

Renaming = list[tuple[str, str | Callable[[re.Match[str]], str]]]


def stage(name: str) -> Callable[[re.Match[str]], str]:
    """The authors count stages from 1."""
    return lambda match: f"{name}{int(match[1]) + 1}"


CONVNEXT: Renaming = [
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample", r"downsample_layers.\1"),
    (r"^(stages\.\d)\.blocks", r"\1"),
    ("conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"^head\.(norm|fc)", lambda match: {"norm": "norm", "fc": "head"}[match[1]]),
]
PVT: Renaming = [
    (r"^patch_embed", "patch_embed1"),
    (r"^stages\.(\d)\.downsample", stage("patch_embed")),
    (r"^stages\.(\d)\.blocks", stage("block")),
    (r"^stages\.(\d)\.norm", stage("norm")),
    (r"mlp\.dwconv", "mlp.dwconv.dwconv"),
]
SWIN: Renaming = [
    (r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample"),
    (r"^head\.fc", "head"),
]
DEIT: Renaming = [(r"ls(\d)\.gamma", r"gamma_\1")]


def renamed(state: dict[str, Tensor], renaming: Renaming) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        for pattern, by in renaming:
            name = re.sub(pattern, by, name)
        found[name] = tensor
    return found


@pytest.mark.parametrize(
    ("name", "renaming"),
    [
        ("test_convnext", CONVNEXT),
        ("pvt_v2_b0", PVT),
        pytest.param("swin_tiny_patch4_window7_224", SWIN, marks=pytest.mark.long),
        pytest.param("deit3_small_patch16_224", DEIT, marks=pytest.mark.long),
    ],
)
def test_names_of_the_authors_are_those_of_timm(
    name: str, renaming: Renaming, tmp_path: Path
) -> None:
    network = timm.create_model(name, num_classes=10).eval()
    theirs = renamed(network.state_dict(), renaming)
    assert theirs.keys() != network.state_dict().keys()
    torch.save({"model": theirs}, tmp_path / "weights.pth")
    found = load_classifier(tmp_path / "weights.pth", architecture=f"timm/{name}", classes=10)
    for own, tensor in network.state_dict().items():
        assert torch.equal(found.network.state_dict()[own], tensor)
    found.save(tmp_path / "c.safetensors")
    images = torch.rand(1, 3, *(found.feed.input_size or ()))
    assert torch.equal(load_classifier(tmp_path / "c.safetensors")(images), found(images))


def test_what_fits_by_no_names_is_told_by_those_of_the_file(tmp_path: Path) -> None:
    theirs = renamed(Classifier("timm/test_convnext", 10).network.state_dict(), CONVNEXT)
    path = tmp_path / "weights.pth"
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({n: t for n, t in theirs.items() if n != "norm.bias"}, r"not expect downsample_layers"),
        ({"0.weight": torch.zeros(2, 2)}, r"not expect 0\.weight"),
    ]
    for state, said in cases:
        torch.save(state, path)
        with pytest.raises(InvalidConfig, match=said):
            load_classifier(path, architecture="timm/test_convnext", classes=10)
