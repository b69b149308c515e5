"""Classifiers in files: what is saved is what is loaded, and nothing else is."""

import pickle
import re
from collections import OrderedDict
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.networks import BATCH_NORMALISED, NETWORKS
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.ensemble import load_ensemble

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
DIGITS = Path(__file__).parents[2] / "tournament" / "digits" / "weights"


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_saved_classifier_comes_back(architecture: str, tmp_path: Path) -> None:
    saved = Classifier(
        architecture,
        7,
        label_offset=1,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        input_size=(32, 32),
        interpolation="bicubic",
    )
    saved.save(tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    images = torch.rand(2, 3, 40, 36)
    assert torch.equal(loaded(images), saved.eval()(images))
    assert loaded(images).shape == (2, 7)
    assert (loaded.label_offset, loaded.feed) == (1, saved.feed)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("architecture", sorted(NETWORKS.keys() - BATCH_NORMALISED.keys()))
def test_an_image_is_classified_alone_also_in_training_mode(architecture: str) -> None:
    classifier = Classifier(architecture, 10).train()
    images = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(classifier(images)[2:3], classifier(images[2:3]))


@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_architectures_are_small(architecture: str) -> None:
    assert sum(weights.numel() for weights in Classifier(architecture, 10).parameters()) < 200e3


def test_normalisation_is_inside() -> None:
    plain, scaled = (
        Classifier("conv_net", 10, mean=(0, 0, 0), std=(1, 1, 1)),
        Classifier("conv_net", 10),
    )
    scaled.network.load_state_dict(plain.network.state_dict())
    torch.testing.assert_close(scaled(IMAGES), plain((IMAGES - 0.5) / 0.5))


def test_only_the_classifier_knows_its_label_offset(tmp_path: Path) -> None:
    Classifier("conv_net", 10, label_offset=1).save(tmp_path / "c.safetensors")
    classifier = load_classifier(tmp_path / "c.safetensors")
    classes = torch.arange(10)
    assert classifier.to_labels(classes).tolist() == list(range(1, 11))
    assert torch.equal(classifier.to_classes(classifier.to_labels(classes)), classes)


def test_weights_rounded_to_16_bits_take_half_the_place(tmp_path: Path) -> None:
    classifier = Classifier("res_net", 10, mean=(0.4914, 0.4822, 0.4465))
    classifier.save(tmp_path / "full.safetensors")
    classifier.save(tmp_path / "half.safetensors", dtype=torch.float16)
    full, half = (load_classifier(tmp_path / f"{name}.safetensors") for name in ("full", "half"))
    assert next(half.parameters()).dtype is torch.float32
    torch.testing.assert_close(half(IMAGES), full(IMAGES), atol=5e-3, rtol=5e-3)
    assert half.feed.mean == (0.4914, 0.4822, 0.4465)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.55 * sizes[0]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_images_of_any_size_are_resized_with_a_gradient(mode: str) -> None:
    classifier = Classifier("mlp_mixer", 10, input_size=(32, 32), interpolation=mode).eval()
    for height, width in ((299, 299), (17, 40)):
        images = torch.rand(2, 3, height, width, requires_grad=True)
        (gradient,) = torch.autograd.grad(classifier(images).sum(), images)
        assert gradient.shape == images.shape
        assert gradient.abs().sum() > 0
    other = {"align_corners": False, "antialias": True} if mode != "nearest" else {}
    small = functional.interpolate(images, (32, 32), mode=mode, **other)
    torch.testing.assert_close(classifier(images), classifier(small))


def test_images_of_the_right_size_are_left_alone() -> None:
    sized, free = Classifier("conv_net", 10, input_size=(32, 32)), Classifier("conv_net", 10)
    free.network.load_state_dict(sized.network.state_dict())
    assert torch.equal(sized(IMAGES), free(IMAGES))
    enlarged = torch.rand(2, 3, 48, 48)
    assert not torch.equal(sized(enlarged), free(enlarged))


def test_a_saved_file_can_be_read_by_another_user(tmp_path: Path) -> None:
    """A sandbox runs a submission under an id of its own."""
    (tmp_path / "plain").touch()
    Classifier("conv_net", 10).save(tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_of_the_first_version_are_read() -> None:
    """They keep mean and standard deviation among the tensors, and state no size."""
    classifier = load_classifier(DIGITS / "mlp_mixer_a.safetensors")
    assert classifier.feed.mean == classifier.feed.std == (0.5, 0.5, 0.5)
    assert classifier.feed.input_size is None


def test_what_the_first_version_normalised_with_counts(tmp_path: Path) -> None:
    network = Classifier("conv_net", 10)
    tensors = {f"network.{name}": tensor for name, tensor in network.network.state_dict().items()}
    tensors["mean"] = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    tensors["std"] = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
    metadata = {"architecture": '"conv_net"', "classes": "10", "label_offset": "0"}
    save_file(tensors, tmp_path / "c.safetensors", metadata)
    feed = load_classifier(tmp_path / "c.safetensors").feed
    assert feed.mean == pytest.approx((0.1, 0.2, 0.3))
    assert feed.std == pytest.approx((0.4, 0.5, 0.6))


def test_a_file_that_is_no_classifier_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(InvalidConfig, match="expected a file of weights: No such file"):
        load_classifier(path)
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(InvalidConfig, match="a PyTorch file that is cut off or damaged, 3"):
        load_classifier(path)
    save_file({}, path)
    with pytest.raises(InvalidConfig, match="told architecture, classes, label_offset, by the"):
        load_classifier(path)
    with pytest.raises(InvalidConfig, match=r"told classes, by.*load_classifier\(path, classes="):
        load_classifier(path, architecture="conv_net")
    metadata = {"architecture": '"conv_net"', "classes": "10", "label_offset": "0"}
    save_file({}, path, metadata)
    with pytest.raises(InvalidConfig, match=r"is missing 0\.0\.weight, .* and \d+ more"):
        load_classifier(path)
    save_file({}, path, metadata | {"architecture": '"conv"'})
    with pytest.raises(InvalidConfig, match=r'conv_net, residual_net.*got "conv"'):
        load_classifier(path)
    save_file({}, path, metadata | {"classes": "ten"})
    with pytest.raises(InvalidConfig, match="JSON"):
        load_classifier(path)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torchvision's ResNet-18 for 5 classes, saved by others in five ways."""
    folder = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(0)
    network = models.resnet18(weights=None, num_classes=5).eval()
    save_file(network.state_dict(), folder / "bare.safetensors")
    torch.save(network.state_dict(), folder / "bare.pth")
    torch.save(network.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    wrapped = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, folder / "wrapped.pth")
    torch.save(network, folder / "whole.pth")
    return network, folder


@pytest.mark.parametrize("file", ["bare.safetensors", "bare.pth", "old.pt", "wrapped.pth"])
def test_weights_of_torchvision_need_only_its_architectures_name(
    file: str, foreign: tuple[nn.Module, Path]
) -> None:
    network, folder = foreign
    classifier = load_classifier(folder / file, architecture="torchvision/resnet18", classes=5)
    images = torch.rand(1, 3, 224, 224)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(classifier(images), network((images - mean) / std))
    assert classifier(IMAGES).shape == (2, 5)
    assert (classifier.label_offset, classifier.feed.input_size) == (0, (224, 224))


def old_name(architecture: str, name: str) -> str:
    """What torchvision called a tensor once."""
    if architecture == "densenet121":
        return re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name)
    return name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")


@pytest.mark.parametrize(
    ("architecture", "versions"),
    [
        ("resnet18", True),
        ("resnet18", False),
        ("mnasnet0_5", True),
        ("mnasnet0_5", False),
        ("googlenet", False),
        pytest.param("densenet121", True, marks=pytest.mark.slow),
        pytest.param("vit_b_32", True, marks=pytest.mark.long),
    ],
)
def test_files_of_old_versions_are_read_as_torchvision_reads_them(
    architecture: str, versions: bool, tmp_path: Path
) -> None:
    """Before PyTorch 0.4.1 batch norm counted no batches; some names changed."""
    saved = Classifier(f"torchvision/{architecture}", 5, input_size=(64, 64)).eval()
    state = saved.network.state_dict()
    old = OrderedDict(
        (old_name(architecture, name), tensor)
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    )
    if versions:
        outermost = state._metadata[""]  # type: ignore[attr-defined]
        old._metadata = {"": outermost, "features": {"version": 1}}  # type: ignore[attr-defined]
    torch.save(old, tmp_path / "old.pth")
    loaded = load_classifier(
        tmp_path / "old.pth",
        architecture=f"torchvision/{architecture}",
        classes=5,
        input_size=(64, 64),
    )
    assert torch.equal(loaded(IMAGES), saved(IMAGES))


def test_the_first_layout_of_a_network_is_read(tmp_path: Path) -> None:
    """MNASNet's files say by a version which one they have."""
    published = models.mnasnet0_5(weights=None, num_classes=5)
    state = published.state_dict()
    state["layers.0.weight"] = torch.zeros(32, 3, 3, 3)
    state._metadata[""] = {"version": 1}
    torch.save(state, tmp_path / "first.pth")
    with pytest.raises(InvalidConfig) as caught:
        load_classifier(tmp_path / "first.pth", architecture="torchvision/mnasnet0_5", classes=5)
    assert not any("layers.0.weight" in problem for problem in caught.value.problems)


def test_what_is_said_of_a_foreign_file_is_saved_with_it(
    foreign: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    classifier = load_classifier(
        foreign[1] / "bare.pth",
        architecture="torchvision/resnet18",
        classes=5,
        label_offset=1,
        mean=(0.5, 0.5, 0.4),
        std=(0.2, 0.2, 0.1),
        input_size=(64, 48),
        interpolation="bicubic",
    )
    classifier.save(tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    assert loaded.to_labels(torch.arange(1)).tolist() == [1]
    assert loaded.feed == classifier.feed
    assert loaded.feed.input_size == (64, 48)
    assert torch.equal(loaded(IMAGES), classifier(IMAGES))


def test_timms_architectures_come_with_their_published_feed(tmp_path: Path) -> None:
    saved = Classifier("timm/vit_tiny_patch16_224.augreg_in21k", 3).eval()
    assert saved.feed.mean == (0.5, 0.5, 0.5)
    assert (saved.feed.input_size, saved.feed.interpolation) == ((224, 224), "bicubic")
    torch.save(saved.network.state_dict(), tmp_path / "vit.pth")
    loaded = load_classifier(
        tmp_path / "vit.pth", architecture="timm/vit_tiny_patch16_224.augreg_in21k", classes=3
    )
    assert torch.equal(loaded(IMAGES), saved(IMAGES))


class Boobytrap:
    """What a pickle can be: code that runs when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_no_pickled_code_is_run(foreign: tuple[nn.Module, Path], tmp_path: Path) -> None:
    torch.save({"state_dict": Boobytrap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Boobytrap(tmp_path / "sprung")))
    for path in (foreign[1] / "whole.pth", tmp_path / "trap.pth", tmp_path / "plain.pth"):
        with pytest.raises(InvalidConfig, match=r"got a pickle that needs other code.*never run"):
            load_classifier(path, architecture="torchvision/resnet18", classes=5)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a file of weights"])
def test_a_damaged_pytorch_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    with pytest.raises(InvalidConfig, match=r"c\.pth: expected"):
        load_classifier(path, architecture="conv_net", classes=10)
    path.write_bytes(content)
    with pytest.raises(InvalidConfig, match=r"c\.pth: expected"):
        load_classifier(path, architecture="conv_net", classes=10)


def test_a_pytorch_file_without_a_mapping_of_tensors_is_refused(tmp_path: Path) -> None:
    for content, got in (
        ([torch.zeros(1)], "list"),
        ({"epoch": 3}, "one with the keys epoch"),
        ({0: torch.zeros(1)}, "one with the keys 0"),
        ({"weight": torch.eye(2).to_sparse()}, "one with the keys weight"),
    ):
        torch.save(content, tmp_path / "c.pth")
        with pytest.raises(InvalidConfig, match=f"expected a state_dict.*got {got}$"):
            load_classifier(tmp_path / "c.pth", architecture="conv_net", classes=10)


def test_weights_that_do_not_fit_are_told_key_by_key(
    foreign: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    tensors = dict(foreign[0].state_dict())
    tensors["surplus.weight"] = tensors.pop("bn1.weight")
    tensors["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    save_file(tensors, tmp_path / "c.safetensors")
    with pytest.raises(InvalidConfig) as caught:
        load_classifier(tmp_path / "c.safetensors", architecture="torchvision/resnet18", classes=5)
    missing, surplus, misshapen = caught.value.problems
    assert missing.endswith("is missing bn1.weight")
    assert surplus.endswith("does not expect surplus.weight")
    assert "conv1.weight (expected (64, 3, 7, 7), got (64, 1, 7, 7))" in misshapen


def test_another_number_of_classes_is_called_that(foreign: tuple[nn.Module, Path]) -> None:
    with pytest.raises(InvalidConfig, match=r"classes: expected weights for 10; got .* for 5"):
        load_classifier(foreign[1] / "bare.pth", architecture="torchvision/resnet18", classes=10)


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("torchvision/resnet5", "torchvision/resnet50"),
        ("timm/vit_tiny_patch16_2242", "timm/vit_tiny_patch16_224"),
        ("resnet50", "torchvision/resnet50, timm/resnet50"),
        ("vggnet", "vgg_net"),
        ("torchvison/resnet18", "torchvision/resnet18"),
        ("torchvision/maskrcnn_resnet50_fpn", "torchvision/"),
    ],
)
def test_an_unknown_architecture_is_told_its_nearest(wanted: str, near: str) -> None:
    with pytest.raises(InvalidConfig, match=f'got "{wanted}", the nearest are .*{near}'):
        Classifier(wanted, 10)


@pytest.mark.parametrize(
    ("key", "stated"),
    [
        *[("architecture", stated) for stated in ("5", '["conv_net"]')],
        *[("classes", stated) for stated in ('"10"', "0", "-1", "10.0", "true")],
        *[("label_offset", stated) for stated in ('"a"', "0.5", "null")],
        *[("mean", stated) for stated in ('"abc"', "0.5", '["a", "b", "c"]', "[NaN, 0, 0]", "[]")],
        *[("std", stated) for stated in ("[1, 1, -1]", "[1, 1, NaN]", "[1, 1]", "{}")],
        *[("input_size", stated) for stated in ('"32"', "[32.5, 32]", "32", "[0, 32]")],
        *[("interpolation", stated) for stated in ("3", '"area"')],
    ],
)
def test_a_file_that_states_nonsense_is_refused_by_the_key(
    key: str, stated: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    metadata = {"architecture": '"conv_net"', "classes": "10", "label_offset": "0"}
    save_file({}, path, metadata | {key: stated})
    with pytest.raises(InvalidConfig) as caught:
        load_classifier(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: {key}: expected")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."]
)
def test_names_are_known_behind_what_wrappers_put_before_them(prefix: str, tmp_path: Path) -> None:
    saved = Classifier("conv_net", 10).eval()
    tensors = {prefix + name: tensor for name, tensor in saved.network.state_dict().items()}
    torch.save(tensors, tmp_path / "c.PTH")
    loaded = load_classifier(tmp_path / "c.PTH", architecture="conv_net", classes=10)
    assert torch.equal(loaded(IMAGES), saved(IMAGES))


def test_values_that_make_no_sense_are_told_together() -> None:
    with pytest.raises(InvalidConfig) as caught:
        Classifier(
            "conv_net", 10, mean=(0.5,), std=(1, 1, 0), input_size=(32,), interpolation="cubic"
        )
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        *("mean", "std", "input_size", "interpolation")
    ]


def unsettled(classifier: Classifier) -> Classifier:
    """Batch norms that do something: drawn statistics, scales and shifts."""
    generator = torch.Generator().manual_seed(0)

    def draw(tensor: Tensor | None, low: float, high: float) -> None:
        assert tensor is not None
        tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in classifier.modules():
            if isinstance(module, nn.BatchNorm2d):
                draw(module.running_mean, -0.2, 0.2)
                draw(module.running_var, 0.5, 2)
                draw(module.weight, 0.5, 1.5)
                draw(module.bias, -0.2, 0.2)
    return classifier.freeze()


def norms(classifier: Classifier) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in classifier.modules())


@pytest.mark.parametrize(
    ("architecture", "left"),
    [
        *[(name, 0) for name in NETWORKS if name != "conv_mixer"],
        ("conv_mixer", 11),  # its norms follow activations
        ("torchvision/resnet18", 0),
        pytest.param("torchvision/vgg11_bn", 0, marks=pytest.mark.slow),
        ("torchvision/mobilenet_v2", 0),
        # Of 121: norms of concatenations stay.
        pytest.param("torchvision/densenet121", 62, marks=pytest.mark.slow),
        # Its norms activate, too.
        pytest.param("timm/efficientnet_b0", 0, marks=pytest.mark.slow),
    ],
)
def test_folding_changes_no_logit(architecture: str, left: int) -> None:
    size = (32, 32) if "/" not in architecture else (64, 64)
    classifier = unsettled(Classifier(architecture, 10, input_size=size))
    before = classifier(IMAGES)
    after = classifier.fold()(IMAGES)
    torch.testing.assert_close(after, before, atol=1e-5 * float(before.abs().max()), rtol=0)
    assert norms(classifier) == left
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_a_classifier_is_loaded_folded_and_in_another_layout(tmp_path: Path) -> None:
    classifier = unsettled(Classifier("res_net", 10))
    classifier.save(tmp_path / "c.safetensors")
    for fold, channels_last in product((False, True), repeat=2):
        loaded = load_classifier(
            tmp_path / "c.safetensors", fold=fold, channels_last=channels_last
        )
        torch.testing.assert_close(loaded(IMAGES), classifier(IMAGES))
        assert norms(loaded) == (0 if fold else norms(classifier))
        weights = next(weights for weights in loaded.parameters() if weights.ndim == 4)
        assert weights.is_contiguous(memory_format=torch.channels_last) == channels_last


class Shared(nn.Module):
    """A convolution whose output is read twice, one that runs twice, and one that folds."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.runs_twice, self.folds = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.norm_1, self.norm_2, self.norm_3 = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        read = self.read_twice(x)
        twice = self.runs_twice(self.runs_twice(x))
        out: Tensor = read + self.norm_1(read) + self.norm_2(twice) + self.norm_3(self.folds(x))
        return out.mean((2, 3))


def test_only_what_nobody_else_reads_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "shared", lambda classes: Shared())
    classifier = unsettled(Classifier("shared", 3))
    before = classifier(IMAGES)
    classifier.fold()
    torch.testing.assert_close(classifier(IMAGES), before)
    assert norms(classifier) == 2
    assert isinstance(classifier.network, Shared)
    assert isinstance(classifier.network.norm_3, nn.Identity)


def test_a_folded_classifier_is_not_saved(tmp_path: Path) -> None:
    """As an ensemble loads its members; where there is nothing to fold, there is nothing lost."""
    for name in ("res_net", "conv_net"):
        Classifier(name, 10).save(tmp_path / f"{name}.safetensors")
    conv_net, res_net = load_ensemble(tmp_path, {"*": 1.0}).members
    assert isinstance(conv_net, Classifier)
    assert isinstance(res_net, Classifier)
    conv_net.save(tmp_path / "again.safetensors")
    again = load_classifier(tmp_path / "again.safetensors")
    assert torch.equal(again(IMAGES), load_classifier(tmp_path / "conv_net.safetensors")(IMAGES))
    with pytest.raises(ValueError, match=r"is not folded; .* again with load_classifier\(path\)"):
        res_net.fold().save(tmp_path / "c.safetensors")


def test_a_tensor_under_two_names_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(classes: int) -> nn.Module:
        first, second = nn.Linear(3, 3), nn.Linear(3, classes)
        second.weight = first.weight
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), first, second)

    monkeypatch.setitem(NETWORKS, "tied", build)
    saved = Classifier("tied", 3).eval()
    saved.save(tmp_path / "c.safetensors")
    assert torch.equal(load_classifier(tmp_path / "c.safetensors")(IMAGES), saved(IMAGES))


@pytest.mark.parametrize(
    ("wanted", "known"),
    [
        ("timm/resnet18.none", "timm/resnet18.a1_in1k"),
        ("timm/test_vit.none", "timm/test_vit.r"),
    ],
)
def test_an_unknown_tag_of_timm_is_told_those_there_are(wanted: str, known: str) -> None:
    with pytest.raises(InvalidConfig, match=f'expected .*{known}.*; got "{wanted}"'):
        Classifier(wanted, 10)


def test_tensors_without_numbers_are_refused(tmp_path: Path) -> None:
    """Saved as `torch.device("meta")` makes them: shapes alone."""
    state = {n: t.to("meta") for n, t in Classifier("conv_net", 10).network.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InvalidConfig, match=r"expected a state_dict, .* dense tensors; got"):
        load_classifier(tmp_path / "w.pth", architecture="conv_net", classes=10)
