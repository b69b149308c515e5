"""Weights that a new run begins with: those of another run, or of an export."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.training.checkpoint import load_checkpoint


def first_weights(path: Path, network: nn.Module) -> Mapping[str, Tensor]:
    """The averaged weights of a checkpoint, or those of an export's network.safetensors.

    Those of a network that is told no gradients also fit one that is told some, with the same
    layers: it begins as the sum of what that one writes and of the gradients.

    Args:
        network: What they must fit.

    Raises:
        InvalidConfig: The file holds none, or those of another network: names each tensor.
    """
    found = _grown(_weights_in(path), network.state_dict())
    if problems := list(_misfits(found, network.state_dict())):
        raise InvalidConfig(*(f"{path}: {problem}" for problem in problems))
    return found


def _weights_in(path: Path) -> Mapping[str, Tensor]:
    if path.suffix != ".safetensors":
        return load_checkpoint(path).states["average"]
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidConfig(f"{path}: expected weights of `advcomp export`: {error}") from error


def _grown(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """With what a network has by being told gradients, as in a new one; the stem sees none yet."""
    shared, new = found.keys() & own.keys(), own.keys() - found.keys()
    if "stem.weight" not in shared or "weights" not in new:
        return found
    added = {name: own[name] for name in new if name.split(".")[0] in ("weights", "filters")}
    stem, told = found["stem.weight"], own["stem.weight"].shape[1]
    unseen = stem.new_zeros(len(stem), max(0, told - stem.shape[1]), *stem.shape[2:])
    return {**found, **added, "stem.weight": torch.cat([stem, unseen], 1)}


def _misfits(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[str]:
    for name in sorted(found.keys() | own.keys()):
        shapes = [tuple(each[name].shape) if name in each else None for each in (own, found)]
        if shapes[0] != shapes[1]:
            expected, got = (shape or "none" for shape in shapes)
            yield (
                f"{name}: expected {expected}, as the recipe's network has it; got {got}; begin "
                "with weights of the same [network], [threat], [hint] and [gradients] count, or "
                "of the same layers and no gradients"
            )
