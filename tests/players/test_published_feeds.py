"""Networks of torchvision and timm see what their own library would show them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier, load_classifier

LEVELS = np.random.default_rng(0).integers(256, size=(2, 96, 96, 3), dtype=np.uint8)
IMAGES = torch.tensor(LEVELS).permute(0, 3, 1, 2) / 255

TRANSFORMING = ("inception_v3", "googlenet")


def calibrated(network: nn.Module, side: int) -> nn.Module:
    """Its batch norms know what passes: otherwise deep networks answer the same for all images."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
    with torch.no_grad():
        network(torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1)))
    return network.eval()


@contextmanager
def downloaded(state: dict[str, Tensor]) -> Iterator[None]:
    """What torchvision would fetch for a network's published weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
        yield


def torchvisions(name: str, side: int) -> tuple[dict[str, Tensor], nn.Module]:
    """Random weights, and the network that torchvision makes of published weights."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in TRANSFORMING else {}
    state = calibrated(models.get_model(name, weights=None, **options), side).state_dict()
    with downloaded(state):
        return state, models.get_model(name, weights="DEFAULT").eval()


def assert_same_logits(ours: Tensor, theirs: Tensor) -> None:
    spread = float(theirs.std())
    assert spread > 0
    assert float((theirs[0] - theirs[1]).abs().max()) > 0.05 * spread
    torch.testing.assert_close(ours, theirs, atol=2e-3 * spread, rtol=0)


def compare_with_torchvision(name: str, side: int, folder: Path) -> None:
    state, published = torchvisions(name, side)
    torch.save(state, folder / "weights.pth")
    classifier = load_classifier(
        folder / "weights.pth",
        architecture=f"torchvision/{name}",
        classes=1000,
        input_size=(side, side),
        fold=True,
        channels_last=True,
    )
    theirs = models.get_model_weights(name).DEFAULT.transforms(crop_size=side, resize_size=side)
    with torch.no_grad():
        assert_same_logits(classifier(IMAGES), published(theirs(IMAGES)))


def compare_with_timm(name: str, side: int, folder: Path) -> None:
    torch.manual_seed(0)
    network = calibrated(timm.create_model(name, num_classes=10), side)
    save_file(network.state_dict(), folder / "weights.safetensors")
    classifier = load_classifier(
        folder / "weights.safetensors",
        architecture=f"timm/{name}",
        classes=10,
        input_size=(side, side),
        fold=True,
        channels_last=True,
    )
    config = resolve_data_config(  # type: ignore[no-untyped-call]
        {"crop_pct": 1.0, "img_size": side}, model=network
    )
    transform = create_transform(**config)
    small = [np.asarray(Image.fromarray(image).resize((side, side))) for image in LEVELS]
    theirs = torch.stack([transform(Image.fromarray(image)) for image in small])
    seen = torch.tensor(np.stack(small)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert_same_logits(classifier(seen), network(theirs))


@pytest.mark.parametrize("name", [*TRANSFORMING, "mnasnet0_5"])
def test_networks_of_torchvision_answer_as_in_torchvision(name: str, tmp_path: Path) -> None:
    compare_with_torchvision(name, 96, tmp_path)


@pytest.mark.parametrize("name", ["mobilevit_xxs", "tf_mobilenetv3_small_minimal_100"])
def test_networks_of_timm_answer_as_in_timm(name: str, tmp_path: Path) -> None:
    compare_with_timm(name, 64, tmp_path)


def test_a_vision_transformer_is_built_for_the_size_it_is_fed(tmp_path: Path) -> None:
    with torch.device("meta"):
        largest = Classifier("torchvision/vit_h_14", 10)
    assert largest.feed.input_size == (518, 518)
    assert largest(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 10)
    with pytest.raises(InvalidConfig, match=r"input_size: expected a square .* got 32x64"):
        Classifier("torchvision/vit_b_16", 10, input_size=(32, 64))


def test_weights_that_began_with_none_say_so(tmp_path: Path) -> None:
    """torchvision transforms the input only where it has published weights to begin with."""
    torch.manual_seed(0)
    network = calibrated(models.googlenet(weights=None, num_classes=10, init_weights=False), 64)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    classifier = load_classifier(
        tmp_path / "weights.pth",
        architecture="torchvision/googlenet",
        classes=10,
        input_size=(96, 96),
        transform_input=False,
    )
    normalise = models.GoogLeNet_Weights.DEFAULT.transforms(crop_size=96, resize_size=96)
    with torch.no_grad():
        assert_same_logits(classifier(IMAGES), network(normalise(IMAGES)))
    classifier.save(tmp_path / "c.safetensors")
    assert torch.equal(load_classifier(tmp_path / "c.safetensors")(IMAGES), classifier(IMAGES))
    with pytest.raises(InvalidConfig, match="transform_input: expected false"):
        Classifier("torchvision/resnet18", 10, transform_input=True)


def test_a_file_of_before_transform_input_is_fed_as_it_was_then(tmp_path: Path) -> None:
    saved = Classifier("torchvision/googlenet", 10, input_size=(64, 64), transform_input=False)
    tensors = {f"network.{n}": t for n, t in saved.network.state_dict().items()}
    stated = {"architecture": '"torchvision/googlenet"', "classes": "10", "label_offset": "0"}
    save_file(tensors, tmp_path / "c.safetensors", stated | {"input_size": "[64, 64]"})
    assert torch.equal(load_classifier(tmp_path / "c.safetensors")(IMAGES), saved.eval()(IMAGES))
