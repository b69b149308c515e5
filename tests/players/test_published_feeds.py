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
from torch.nn import functional
from torchvision import models
from torchvision.models import WeightsEnum

from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier, load_classifier

LEVELS = np.random.default_rng(0).integers(256, size=(2, 96, 96, 3), dtype=np.uint8)
IMAGES = torch.tensor(LEVELS).permute(0, 3, 1, 2) / 255

FAMILIES = (
    "beit_base_patch16_224",
    "halonet_h1",
    "test_byobnet",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "test_convnext",
    "cpubone_nano",
    "crossvit_tiny_240",
    "csatv2",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "test_efficientnet",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "vit_tiny_patch16_dinov3_qkvb",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_050",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "hieradet_small",
    "hrnet_w18",
    "iformer_h",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnetv2_base",
    "levit_128",
    "lowformer_b0",
    "mambaout_base",
    "test_maxvit",
    "caformer_b36",
    "gmlp_b16_224",
    "fbnetv3_b",
    "mobilevit_s",
    "mvitv2_base",
    "naflexvit_base_patch16_gap",
    "nasnetalarge",
    "nest_base",
    "nextvit_base",
    "nfnet_f0",
    "pit_b_224",
    "pnasnet5large",
    "pvt_v2_b0",
    "rdnet_base",
    "regnetv_040",
    "repghostnet_050",
    "repvit_m1",
    "res2net50d",
    "resnest14d",
    "resnet18",
    "resnetv2_18",
    "rexnet_100",
    "selecsls42",
    "legacy_senet154",
    "sequencer2d_l",
    "shvit_s1",
    "skresnet18",
    "starnet_s1",
    "swiftformer_s",
    "swin_s3_base_224",
    "swinv2_base_window8_256",
    "swinv2_cr_base_224",
    "tiny_vit_5m_224",
    "tnt_b_patch16_224",
    "tresnet_l",
    "twins_svt_base",
    "vgg11",
    "visformer_tiny",
    "test_vit",
    "vit_base_mci_224",
    "test_vit_relpos",
    "vitamin_base_224",
    "volo_d1_224",
    "vovnet39a",
    "legacy_xception",
    "xception41",
    "xcit_nano_12_p8_224",
)
"""Of timm, one small network of every module."""

SMALLER = {
    "gemma4_vit_167m": 96,
    "mobilenetv5_base": 96,
    "qwen3_vit_88m": 96,
    "samvit_base_patch16_224": 224,
}
"""Of timm, the smallest of modules whose networks are large, and a size that they take."""

HUGE = "deepseek_vit_412m"
"""The smallest of the one module of timm that is not compared: it takes ten gigabytes."""

LEFT_OUT = ("vit_h_14", "vit_l_16", "vit_l_32", "regnet_y_128gf")
"""Of torchvision: they take gigabytes; smaller ones of their kinds are compared."""

TRANSFORMING = ("inception_v3", "googlenet")

CHAOTIC = (*(f"efficientnet_b{n}" for n in (5, 6, 7)), "efficientnet_v2_m", "legacy_senet154")
"""With random weights they answer by what rounding leaves: torchvision's own logits in single
precision are off from those in double by nine tenths of what two images differ in, and folding
batch norm, which is exact in real numbers, moves them in double by a third of it
(efficientnet_v2_m, 64 pixels). Before it is folded, ours are theirs to the last bit in both."""
CALM = 0.2
"""What batch norms then scale by, so that no layer blows up what rounding leaves: single precision
is off by 7e-7 then, folding by 2e-15 in double, where two images differ in 0.3."""


def calibrated(network: nn.Module, side: int, scale: float | None = None) -> nn.Module:
    """Its batch norms know what passes: otherwise deep networks answer the same for all images.

    No parameter is 0 throughout, as in some heads; batch norms scale by `scale`, where given.
    """
    network.eval()
    for norm in network.modules():
        if scale is not None and isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.fill_(scale)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.02)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
    seen = functional.interpolate(IMAGES, (side, side), mode="bilinear", antialias=True)
    with torch.no_grad():
        network(torch.cat([seen, seen.flip(3), seen.flip(2)]) * 4 - 2)
    return network.eval()


@contextmanager
def downloaded(state: dict[str, Tensor]) -> Iterator[None]:
    """What torchvision would fetch for a network's published weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
        yield


def _scale(name: str) -> float | None:
    return CALM if name in CHAOTIC else None


def torchvisions(name: str, side: int) -> tuple[dict[str, Tensor], nn.Module]:
    """Random weights, and the network that torchvision makes of published weights."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in TRANSFORMING else {}
    network = models.get_model(name, weights=None, **options)
    state = calibrated(network, side, _scale(name)).state_dict()
    with downloaded(state):
        return state, models.get_model(name, weights="DEFAULT").eval()


def assert_same_logits(
    classifier: Classifier, images: Tensor, published: nn.Module, shown: Tensor
) -> None:
    """Our network sees what the library shows, and answers to it as the library's own does.

    In double precision, and one after the other: deep networks blow up what rounding leaves.
    """
    seen: list[Tensor] = []
    classifier = classifier.double().fold()
    classifier.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        ours = classifier(images.double())
        theirs = published.double()(seen[0])
    torch.testing.assert_close(seen[0], shown.double(), atol=1e-4, rtol=0)
    assert float((theirs[0] - theirs[1]).abs().max()) > 1e-5 * float(theirs.std())
    torch.testing.assert_close(ours, theirs, atol=1e-6 * float(theirs.std()), rtol=0)


def compare_with_torchvision(name: str, side: int, folder: Path) -> None:
    state, published = torchvisions(name, side)
    torch.save(state, folder / "weights.pth")
    classifier = load_classifier(
        folder / "weights.pth",
        architecture=f"torchvision/{name}",
        classes=1000,
        input_size=(side, side),
        channels_last=True,
    )
    transform = models.get_model_weights(name).DEFAULT.transforms(crop_size=side, resize_size=side)
    assert_same_logits(classifier, IMAGES, published, transform(IMAGES))


def crop_of(name: str) -> int:
    side: int = models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    return side


def compare_with_timm(name: str, side: int, folder: Path) -> None:
    torch.manual_seed(0)
    network = calibrated(timm.create_model(name, num_classes=10), side, _scale(name))
    torch.save(network.state_dict(), folder / "weights.pth")
    classifier = load_classifier(
        folder / "weights.pth",
        architecture=f"timm/{name}",
        classes=10,
        input_size=(side, side),
        channels_last=True,
    )
    config = resolve_data_config(  # type: ignore[no-untyped-call]
        {"crop_pct": 1.0, "img_size": side}, model=network
    )
    transform = create_transform(**config)
    small = [np.asarray(Image.fromarray(image).resize((side, side))) for image in LEVELS]
    shown = torch.stack([transform(Image.fromarray(image)) for image in small])
    seen = torch.tensor(np.stack(small)).permute(0, 3, 1, 2) / 255
    assert_same_logits(classifier, seen, network, shown)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *[(name, 96) for name in (*TRANSFORMING, "mnasnet0_5")],
        *[
            pytest.param(name, None, marks=pytest.mark.long)
            for name in models.list_models(module=models)
            if name not in LEFT_OUT
        ],
    ],
)
def test_networks_of_torchvision_answer_as_in_torchvision(
    name: str, side: int | None, tmp_path: Path
) -> None:
    compare_with_torchvision(name, side or crop_of(name), tmp_path)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mobilevit_xxs", 64),
        ("tf_mobilenetv3_small_minimal_100", 64),
        *[pytest.param(name, None, marks=pytest.mark.long) for name in FAMILIES],
        *[pytest.param(*each, marks=pytest.mark.long) for each in SMALLER.items()],
    ],
)
def test_networks_of_timm_answer_as_in_timm(name: str, side: int | None, tmp_path: Path) -> None:
    published = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    compare_with_timm(name, side or published.input_size[-1], tmp_path)


def test_every_family_of_timm_is_compared() -> None:
    names = (*FAMILIES, *SMALLER, HUGE)
    modules = {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in names}
    assert modules == set(timm.list_modules())


def test_an_encoder_without_classes_is_refused() -> None:
    with torch.device("meta"), pytest.raises(InvalidConfig, match=r'"timm/\w+" is an encoder'):
        Classifier("timm/qwen3_vit_88m_enc", 10)


@pytest.mark.long
def test_what_is_too_large_to_compare_is_fed_as_its_library_feeds_it() -> None:
    with torch.device("meta"):
        ours = Classifier(f"timm/{HUGE}", 10)
        theirs = timm.create_model(HUGE, num_classes=10)
        assert ours(torch.zeros(1, 3, 96, 96)).shape == (1, 10)
    config = resolve_data_config({}, model=theirs)  # type: ignore[no-untyped-call]
    assert ours.feed.input_size == config["input_size"][1:]
    assert (ours.feed.mean, ours.feed.std) == (config["mean"], config["std"])
    assert ours.feed.interpolation == config["interpolation"]


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
    classifier.save(tmp_path / "c.safetensors")
    assert_same_logits(classifier, IMAGES, network, normalise(IMAGES))
    again = load_classifier(tmp_path / "c.safetensors")
    assert_same_logits(again, IMAGES, network, normalise(IMAGES))
    with pytest.raises(InvalidConfig, match="transform_input: expected false"):
        Classifier("torchvision/resnet18", 10, transform_input=True)


def test_a_file_of_before_transform_input_is_fed_as_it_was_then(tmp_path: Path) -> None:
    saved = Classifier("torchvision/googlenet", 10, input_size=(64, 64), transform_input=False)
    tensors = {f"network.{n}": t for n, t in saved.network.state_dict().items()}
    stated = {"architecture": '"torchvision/googlenet"', "classes": "10", "label_offset": "0"}
    save_file(tensors, tmp_path / "c.safetensors", stated | {"input_size": "[64, 64]"})
    assert torch.equal(load_classifier(tmp_path / "c.safetensors")(IMAGES), saved.eval()(IMAGES))
