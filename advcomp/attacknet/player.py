"""An exported network at play: what `run_attack.py` of a submission loads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.hint import GradientHint
from advcomp.attacknet.network.model import AttackNetwork, NetworkSpec
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.attacknet.recipe import HintMode
from advcomp.errors import InvalidConfig
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.classifier.weights import fill, read_weights
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack, TargetedAttack
from advcomp.players.ensemble import Ensemble
from advcomp.players.image.pixels import require_eps, require_images

NETWORK, SURROGATE = "network.safetensors", "surrogate.safetensors"
GRADIENT_SURROGATE = "gradient_surrogate_{}.safetensors"
SPEC, HINT_MODE, HINT_LAYERS = "spec", "hint_mode", "hint_layers"
GRADIENT_SURROGATES, GRADIENT_LABELS = "gradient_surrogates", "gradient_labels"
_SHOWN = 5
GRADIENTS_APART = "gradients_apart"


def load_attack(folder: Path) -> Attack:
    """The network in a submission's folder as a function of images and eps.

    Raises:
        InvalidConfig: A file is missing or no export, or the network aims at labels.
    """
    generator = load_generator(folder)
    if _labels_of(generator) is not None:
        raise InvalidConfig(
            f"{folder / NETWORK}: expected a network that aims at no label; got one that does; "
            "play it as a targeted_attack"
        )
    return lambda clean, eps: _played(generator, clean, None, eps)


def load_targeted_attack(folder: Path) -> TargetedAttack:
    """The targeted network in a submission's folder as a function of images, targets and eps.

    Raises:
        InvalidConfig: A file is missing or no export, or the network aims at no label.
    """
    generator = load_generator(folder)
    if _labels_of(generator) is None:
        raise InvalidConfig(
            f"{folder / NETWORK}: expected a network that aims at labels; got one that does not; "
            "play it as an attack, or train it with targeted = true"
        )
    return lambda clean, targets, eps: _played(generator, clean, targets, eps)


@torch.no_grad()
def _played(
    generator: AdversarialGenerator, clean: Tensor, targets: Tensor | None, eps: float
) -> Tensor:
    """Adversarial images; what goes in and what comes out is looked at.

    Raises:
        ValueError: Images that are no floats in [0, 1], an eps that is no budget, targets that are
            no labels of the network, or pixels that are no numbers.
    """
    require_images(clean)
    require_eps(eps)
    if targets is not None:
        _require_targets(targets, _labels_of(generator) or (), len(clean))
    if not len(clean):
        return clean.clone()
    x = clean.contiguous(memory_format=torch.channels_last)
    adversarial: Tensor = generator(x, clean.new_full((len(clean),), eps), targets)
    if not bool(adversarial.isfinite().all()):
        raise ValueError(
            f"{NETWORK}: expected numbers for all pixels of {len(clean)} images; got NaN; look "
            "for values that are too large in its weights and in those of its surrogates"
        )
    return adversarial


def _labels_of(generator: AdversarialGenerator) -> tuple[int, ...] | None:
    """The labels that a network can lead to; None where it does not aim."""
    assert isinstance(generator.network, AttackNetwork)
    return generator.network.spec.target_labels


def _require_targets(targets: Tensor, labels: Sequence[int], images: int) -> None:
    if targets.shape != (images,) or targets.is_floating_point():
        raise ValueError(
            f"targets: expected integers ({images},), a label for each image; got "
            f"{str(targets.dtype).removeprefix('torch.')} {tuple(targets.shape)}"
        )
    if strange := sorted(set(targets.tolist()) - set(labels)):
        raise ValueError(
            f"targets: expected labels that the network was trained to lead to, {min(labels)} to "
            f"{max(labels)}; got {', '.join(map(str, strange[:_SHOWN]))}; labels may count from "
            "0 or from 1: as in the images of its training"
        )


def load_generator(folder: Path) -> AdversarialGenerator:
    """The network of `network.safetensors`, and the surrogates that it is told of beside it.

    Raises:
        InvalidConfig: A file is missing, is no export of `advcomp export`, or holds NaN.
    """
    path = folder / NETWORK
    tensors, metadata = read_weights(path)
    if missing := [key for key in (SPEC, HINT_MODE, HINT_LAYERS) if key not in metadata]:
        raise InvalidConfig(
            f"{path}: expected a network of `advcomp export`; got a file that does not say its "
            f"{', '.join(missing)}"
        )
    try:
        spec = NetworkSpec.model_validate_json(metadata[SPEC])
        mode, layers = HintMode(metadata[HINT_MODE]), json.loads(metadata[HINT_LAYERS])
        surrogates = json.loads(metadata.get(GRADIENT_SURROGATES, "0"))
        labels = LabelKind(metadata.get(GRADIENT_LABELS, LabelKind.SOFT))
        apart = bool(json.loads(metadata.get(GRADIENTS_APART, "false")))
    except ValueError as error:
        raise InvalidConfig(f"{path}: expected a network of `advcomp export`: {error}") from error
    network, hint = AttackNetwork(spec), None
    fill(network, tensors, path)
    if mode is not HintMode.NONE:
        hint = GradientHint(load_classifier(folder / SURROGATE), layers)
    paths = [folder / GRADIENT_SURROGATE.format(number + 1) for number in range(surrogates)]
    gradients = gradients_from_files(paths, spec.gradients, labels, apart=apart, quick=True)
    return AdversarialGenerator(network, hint, mode, gradients).eval().requires_grad_(False)


def gradients_from_files(
    paths: Sequence[Path], told: int, labels: LabelKind, *, apart: bool, quick: bool
) -> PixelGradients | None:
    """So many gradients of the surrogates in some files; None where there are no files.

    Args:
        quick: As the library's attacks have theirs: folded, in the layout that is faster. Not for
            ONNX, whose exporter knows no such classifiers.
    """
    if not paths:
        return None
    surrogates = Ensemble([load_classifier(p, fold=quick, channels_last=quick) for p in paths])
    count = told // len(paths) if apart else told
    return PixelGradients(surrogates, count=count, labels=labels, apart=apart)


def filled(
    spec: NetworkSpec,
    weights: Mapping[str, Any],
    hint: GradientHint | None,
    mode: HintMode,
    gradients: PixelGradients | None = None,
) -> AdversarialGenerator:
    """A generator with given weights, frozen."""
    network = AttackNetwork(spec)
    network.load_state_dict(weights)
    return AdversarialGenerator(network, hint, mode, gradients).eval().requires_grad_(False)
