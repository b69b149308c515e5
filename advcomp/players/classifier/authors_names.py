"""Weights as a network's authors published them, under the names that timm's network has.

timm passes such files through a filter, of which a module of networks has one or none. It renames,
reshapes, resamples embeddings of positions and drops what timm computes itself.
"""

import inspect
import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from advcomp.players.classifier.architectures import TIMM

_FILTERS = ("checkpoint_filter_fn", "checkpoint_filter_fn_classifier", "_filter_fn")
"""What timm's modules call theirs."""

_UNFIT = (LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError)
"""What filters raise at tensors of something else."""


def in_timms_names(
    architecture: str, network: nn.Module, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """What timm would load of its authors' file; None where timm knows no other names.

    Args:
        architecture: The network's name.
        network: As `architectures.build` made it.
        tensors: Of the file, by the file's names. What comes back need not fit either.
    """
    if not architecture.startswith(TIMM):
        return None
    import timm

    module = sys.modules[timm.model_entrypoint(architecture.removeprefix(TIMM)).__module__]
    found = next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
    if found is None:
        return None
    try:
        with torch.no_grad():
            return dict(_called(found, dict(tensors), network))
    except _UNFIT:
        return None


def _called(
    found: Callable[..., Mapping[str, Tensor]], tensors: dict[str, Tensor], network: nn.Module
) -> Mapping[str, Tensor]:
    takes = inspect.signature(found).parameters
    # As timm's DeiT has it; of other networks no tensor is called so.
    more = {"adapt_layer_scale": True} if "adapt_layer_scale" in takes else {}
    return found(tensors, network, **more) if "model" in takes else found(tensors)
