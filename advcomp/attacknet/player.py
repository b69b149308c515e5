"""An exported network at play: what `run_attack.py` of a submission loads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.hint import GradientHint
from advcomp.attacknet.network.model import AttackNetwork, NetworkSpec
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.attacknet.recipe import HintMode
from advcomp.errors import InvalidConfig
from advcomp.players.attack.labels import LabelKind
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack, TargetedAttack
from advcomp.players.ensemble import Ensemble

NETWORK, SURROGATE = "network.safetensors", "surrogate.safetensors"
GRADIENT_SURROGATE = "gradient_surrogate_{}.safetensors"
SPEC, HINT_MODE, HINT_LAYERS = "spec", "hint_mode", "hint_layers"
GRADIENT_SURROGATES, GRADIENT_LABELS = "gradient_surrogates", "gradient_labels"
GRADIENTS_APART = "gradients_apart"


def load_attack(folder: Path) -> Attack:
    """The network in a submission's folder as a function of images and eps."""
    generator = load_generator(folder)

    def attack(clean: Tensor, eps: float) -> Tensor:
        with torch.no_grad():
            adversarial: Tensor = generator(clean, clean.new_full((len(clean),), eps))
        return adversarial

    return attack


def load_targeted_attack(folder: Path) -> TargetedAttack:
    """The targeted network in a submission's folder as a function of images, targets and eps."""
    generator = load_generator(folder)

    def attack(clean: Tensor, targets: Tensor, eps: float) -> Tensor:
        with torch.no_grad():
            adversarial: Tensor = generator(clean, clean.new_full((len(clean),), eps), targets)
        return adversarial

    return attack


def load_generator(folder: Path) -> AdversarialGenerator:
    """The network of `network.safetensors`, and the surrogates that it is told of beside it.

    Raises:
        InvalidConfig: A file is missing or no export of `advcomp export`.
    """
    path = folder / NETWORK
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        spec = NetworkSpec.model_validate_json(metadata[SPEC])
        mode, layers = HintMode(metadata[HINT_MODE]), json.loads(metadata[HINT_LAYERS])
        surrogates = json.loads(metadata.get(GRADIENT_SURROGATES, "0"))
        labels = LabelKind(metadata.get(GRADIENT_LABELS, LabelKind.SOFT))
        apart = bool(json.loads(metadata.get(GRADIENTS_APART, "false")))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InvalidConfig(f"{path}: expected a network of `advcomp export`: {error}") from error
    hint = None
    if mode is not HintMode.NONE:
        hint = GradientHint(load_classifier(folder / SURROGATE), layers)
    paths = [folder / GRADIENT_SURROGATE.format(number + 1) for number in range(surrogates)]
    gradients = gradients_of(paths, spec.gradients, labels, apart=apart)
    return filled(spec, tensors, hint, mode, gradients)


def gradients_of(
    paths: Sequence[Path], told: int, labels: LabelKind, *, apart: bool
) -> PixelGradients | None:
    """So many gradients of the surrogates in some files; None where there are no files."""
    if not paths:
        return None
    surrogates = Ensemble([load_classifier(path) for path in paths])
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
