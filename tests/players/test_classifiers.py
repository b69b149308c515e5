"""Classifiers in files: what is saved is what is loaded, and nothing else is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.networks import ARCHITECTURES


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_classifier_comes_back(architecture: str, tmp_path: Path) -> None:
    saved = Classifier(architecture, 7, label_offset=1, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    saved.save(tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), saved.eval()(images))
    assert loaded(images).shape == (2, 7)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_is_classified_alone_also_in_training_mode(architecture: str) -> None:
    classifier = Classifier(architecture, 10).train()
    images = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(classifier(images)[2:3], classifier(images[2:3]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_architectures_are_small(architecture: str) -> None:
    assert (
        sum(4 * parameter.numel() for parameter in Classifier(architecture, 10).parameters())
        < 150e3
    )


def test_normalisation_is_inside() -> None:
    plain, scaled = (
        Classifier("conv_net", 10, mean=(0, 0, 0), std=(1, 1, 1)),
        Classifier("conv_net", 10),
    )
    scaled.network.load_state_dict(plain.network.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(scaled(images), plain((images - 0.5) / 0.5))


def test_only_the_classifier_knows_its_label_offset(tmp_path: Path) -> None:
    Classifier("conv_net", 10, label_offset=1).save(tmp_path / "c.safetensors")
    classifier = load_classifier(tmp_path / "c.safetensors")
    classes = torch.arange(10)
    assert classifier.to_labels(classes).tolist() == list(range(1, 11))
    assert torch.equal(classifier.to_classes(classifier.to_labels(classes)), classes)


def test_a_saved_file_can_be_read_by_another_user(tmp_path: Path) -> None:
    """A sandbox runs a submission under an id of its own."""
    (tmp_path / "plain").touch()
    Classifier("conv_net", 10).save(tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_that_is_no_classifier_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(InvalidConfig, match="readable safetensors file"):
        load_classifier(path)
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(InvalidConfig, match="readable safetensors file"):
        load_classifier(path)
    save_file({}, path)
    with pytest.raises(InvalidConfig, match="architecture, classes, label_offset missing"):
        load_classifier(path)
    metadata = {"architecture": '"conv_net"', "classes": "10", "label_offset": "0"}
    save_file({"mean": torch.zeros(1)}, path, metadata)
    with pytest.raises(InvalidConfig, match="Missing key"):
        load_classifier(path)
    save_file({}, path, metadata | {"architecture": '"conv"'})
    with pytest.raises(InvalidConfig, match=r'conv_net, residual_net.*got "conv"'):
        load_classifier(path)
