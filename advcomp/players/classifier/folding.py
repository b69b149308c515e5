"""Batch norm folded into the convolution or linear layer before it: fewer steps, the same sums.

In evaluation mode batch norm multiplies and shifts every channel by constants; those go into the
weights and the bias of the layer that feeds it, if nobody else reads what that layer gives. Who
reads what is seen by watching one forward pass, so that branches, nesting and control flow do not
matter. A norm that reads anything else, such as a sum of branches, stays as it is.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network, example: Tensor) -> Network:
    """Fold every batch norm that can be folded, in place; the network is put in evaluation mode.

    Args:
        example: Any images (N, 3, H, W) that the network takes.
    """
    network.eval()
    if any(isinstance(module, _NORMS) for module in network.modules()):
        for layer, norm in _pairs(network, example):
            _fold(network, layer, norm)
    return network


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    """Layers that run once, and the batch norms that alone read what they give."""
    seen = _watch(network, example)
    made_by = {id(seen.outputs[layer]): layer for layer in seen.outputs}
    return [
        (layer, norm)
        for norm, x in seen.inputs.items()
        if (layer := made_by.get(id(x))) is not None
        and seen.runs[layer] == seen.runs[norm] == 1
        and seen.readers[id(x)] == 1
    ]


class _Watch(TorchFunctionMode):
    """Counts the operations that read each tensor and give another one.

    Everything that was seen is kept alive, so that an id stands for one tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: Counter[int] = Counter()
        self.runs: Counter[nn.Module] = Counter()
        self.outputs: dict[nn.Module, Tensor] = {}
        self.inputs: dict[nn.Module, Tensor] = {}
        self._alive: list[object] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run the operation, and note what it read."""
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.readers.update({id(tensor) for tensor in read})
            self._alive += [result, *read]
        return result

    def after_layer(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        """A hook for a layer's forward."""
        self.runs[layer] += 1
        self.outputs[layer] = output

    def before_norm(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook for a norm's forward."""
        self.runs[norm] += 1
        self.inputs[norm] = inputs[0]


def _watch(network: nn.Module, example: Tensor) -> _Watch:
    watch = _Watch()
    hooks = [
        module.register_forward_hook(watch.after_layer)
        if type(module) in (nn.Conv2d, nn.Linear)
        else module.register_forward_pre_hook(watch.before_norm)
        for module in network.modules()
        if type(module) in (nn.Conv2d, nn.Linear) or _rest(module) is not None
    ]
    with torch.no_grad(), watch:
        network(example)
    for hook in hooks:
        hook.remove()
    return watch


def _rest(module: nn.Module) -> nn.Module | None:
    """What a batch norm does besides; None where the module is none, or has no statistics.

    timm has a class that also drops and activates; others that we do not know are left alone.
    """
    if not isinstance(module, _NORMS) or module.running_mean is None:
        return None
    if type(module) in _NORMS:
        return nn.Identity()
    parts = dict(module.named_children())
    return nn.Sequential(parts["drop"], parts["act"]) if parts.keys() == {"drop", "act"} else None


def _fold(network: nn.Module, layer: nn.Module, norm: nn.Module) -> None:
    rest = _rest(norm)
    assert rest is not None
    assert isinstance(norm, _NORMS)
    if isinstance(layer, nn.Conv2d):
        _replace(network, layer, fuse_conv_bn_eval(layer, norm))
    elif isinstance(layer, nn.Linear):
        _replace(network, layer, fuse_linear_bn_eval(layer, norm))
    _replace(network, norm, rest)


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Wherever `old` hangs in the network's tree, hang `new` there."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
