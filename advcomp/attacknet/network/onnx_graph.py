"""Writes a generator as an ONNX graph, the gradient hint's backward pass included.

The hint asks autograd for gradients, which no exporter knows. So the generator is first traced to
plain tensor operations, gradients and all, and what the exporter lacks is put in other words: the
gradient of a convolution by its input is a transposed convolution.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.errors import MissingExtra

TARGET_LABELS = "target_labels"


def write_onnx(path: Path, generator: AdversarialGenerator, image_size: tuple[int, int]) -> None:
    """One image at a time: `clean` (1, 3, H, W), `eps` (1,) and, if aimed, `targets` (1,).

    Which labels these may be, the graph's metadata say.

    Args:
        path: Gets the graph with its weights.
        generator: Frozen, in float32.
        image_size: H and W, which the graph is fixed to.

    Raises:
        MissingExtra: What exports graphs is not installed.
    """
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it, and says so less clearly)
    except ImportError as error:
        raise MissingExtra(
            "onnxscript is not installed; install it with: pip install 'advcomp[train]'"
        ) from error
    names, inputs = _inputs(generator, image_size)
    traced = make_fx(
        lambda *given: generator(*given),
        decomposition_table=_decompositions(),
        tracing_mode="real",
    )(*inputs).eval()
    program = torch.onnx.export(
        traced, inputs, input_names=names, output_names=["adversarial"], dynamo=True, verbose=False
    )
    assert program is not None
    network: Any = generator.network
    program.model.metadata_props[TARGET_LABELS] = json.dumps(network.spec.target_labels or ())
    program.save(str(path))


def _inputs(
    generator: AdversarialGenerator, image_size: tuple[int, int]
) -> tuple[list[str], tuple[Tensor, ...]]:
    network: Any = generator.network
    labels = network.spec.target_labels
    # Noise, not grey: a constant image has activations of zero, which some traces fold away.
    clean = torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(0))
    inputs = (clean, torch.full((1,), 8 / 255))
    if labels is None:
        return ["clean", "eps"], inputs
    return ["clean", "eps", "targets"], (*inputs, torch.tensor(labels[:1]))


def _decompositions() -> dict[Any, Any]:
    table: dict[Any, Any] = dict(torch._decomp.core_aten_decompositions())
    table[torch.ops.aten.convolution_backward.default] = _convolution_backward
    return table


def _convolution_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: object,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    _transposed: bool,
    _output_padding: list[int],
    groups: int,
    _mask: object,
) -> tuple[Tensor, None, None]:
    """By the input alone: weights are frozen."""
    shapes = zip(
        x.shape[2:], gradient.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
    )
    left_over = [
        size - ((out - 1) * step - 2 * pad + apart * (kernel - 1) + 1)
        for size, out, kernel, step, pad, apart in shapes
    ]
    by_input = nn.functional.conv_transpose2d(
        gradient, weight, None, stride, padding, left_over, groups, dilation
    )
    return by_input, None, None
