"""The attack network: an image in, a perturbation within the budget out, in one forward pass.

An encoder with taps and a decoder with skips (team iwiwi's entry of 2017, arXiv 1804.00097,
section 5.7), of any size and for images of any size. The output is

    p = tanh(a) sigmoid(b) + previous (1 - sigmoid(b)),

between tanh(a) and the previous pass's p, so |p| <= 1, and the adversarial image is x + eps p: the
budget holds by construction. Group norm, so that no image depends on its neighbours.

A network may be told gradients g_i by the pixel, beside the image, and then write what is missing
from them: a residual output u gives

    p = tanh(k (sum_i w_i g_i + u))

with weights w_i that are learnt, from 1, and u = 0 before the first step: it begins as the
gradients' attack. k is fixed; a learnt one grows until tanh is flat and u has no gradient. Filters
F_i of several pixels, which are learnt from 0, may stand beside the weights: w_i g_i + F_i * g_i.
The output "sign" is sign(sum_i w_i g_i + ... + u), the whole budget everywhere, with the
derivative of the above in the backward pass. Without widths there are no layers and u is 0: what
is learnt is how gradients are added.

One network serves every epsilon, in one of two ways or both. Heads (2017): the last layer writes
one pair (a, b) for each epsilon of training, and the nearest is taken. Condition: epsilon is
embedded and scales and shifts the features of every block (Perez et al. 2018, arXiv 1709.07871).
A target class is embedded in the same way.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from advcomp.attacknet.recipe import EpsilonInput, NetworkTable, OutputForm
from advcomp.rules.toml_file import Table

COLOURS = 3
_GROUP = 8


class HintLayer(Table):
    """One layer of a surrogate as the network sees it.

    Args:
        channels: Of the hint: activations and gradients, one after the other.
        level: Of the decoder, counted from the highest resolution, where the hint comes in.
    """

    channels: int
    level: int


class NetworkSpec(Table):
    """All that must be known to build a network before its weights are loaded.

    Args:
        table: The recipe's [network].
        max_epsilons: The budgets of training, in pixel levels.
        target_labels: The labels that a targeted network can lead to; None for an untargeted one.
        hint: The layers of the hint, none where there is no hint.
        gradients: How many gradients the first layer is told by the pixel.
    """

    table: NetworkTable
    max_epsilons: tuple[int, ...] = Field(strict=False)
    target_labels: tuple[int, ...] | None = Field(strict=False)
    hint: tuple[HintLayer, ...] = Field(strict=False)
    gradients: int = 0

    @property
    def channels(self) -> int:
        """What the last layer writes of every pixel: a and b, or u."""
        return COLOURS if self.table.output.adds else 2 * COLOURS

    @property
    def heads(self) -> int:
        """How many pairs (a, b), or how many u, the last layer writes."""
        return 1 if self.table.epsilon is EpsilonInput.CONDITION else len(self.max_epsilons)

    @property
    def embedding(self) -> int | None:
        """How many numbers condition the blocks; None where nothing does."""
        conditions = self.table.epsilon is not EpsilonInput.HEADS
        conditions = conditions or self.target_labels is not None
        return self.table.embedding if conditions else None


class AttackNetwork(nn.Module):
    """Images (N, 3, H, W) in [0, 1] and eps (N,) to perturbations (N, 3, H, W) in [-1, 1].

    Args:
        recompute: Keep no activations of blocks for the backward pass, compute them again.
    """

    def __init__(self, spec: NetworkSpec, *, recompute: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.recompute = recompute
        table = spec.table
        if table.widths:
            self._add_layers(spec)
        if spec.gradients and table.output.adds:
            self.weights = nn.Parameter(torch.ones(spec.gradients))
            self.filters = _filters(COLOURS * spec.gradients, table.filter_size)
        self.register_buffer(
            "levels", torch.tensor(spec.max_epsilons, dtype=torch.float32), persistent=False
        )

    levels: Tensor

    def _add_layers(self, spec: NetworkSpec) -> None:
        table, widths = spec.table, spec.table.widths
        self.condition = None if spec.embedding is None else _Condition(spec)
        reach = max(1, table.stem_stride - 1)  # so that the stem steps over no pixel
        told = COLOURS * (1 + spec.gradients)
        self.stem = nn.Conv2d(told, widths[0], 2 * reach + 1, table.stem_stride, padding=reach)
        self.encoder = nn.ModuleList(
            _blocks(width, table.blocks, spec.embedding) for width in widths
        )
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2, padding=1) for before, after in pairwise(widths)
        )
        self.mix = nn.ModuleList(
            nn.Conv2d(width + _hint_channels(spec, level), width, 1)
            for level, width in enumerate(widths)
        )
        self.bottleneck = _blocks(widths[-1], table.bottlenecks, spec.embedding)
        self.up = nn.ModuleList(nn.Conv2d(below, above, 1) for above, below in pairwise(widths))
        self.decoder = nn.ModuleList(
            _blocks(width, table.blocks, spec.embedding) for width in widths[:-1]
        )
        self.norm = nn.GroupNorm(widths[0] // _GROUP, widths[0])
        outputs = spec.channels * spec.heads * table.stem_stride**2
        self.last = nn.Conv2d(widths[0], outputs, 3, padding=1)
        if spec.gradients and table.output.adds:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: Tensor,
        eps: Tensor,
        *,
        targets: Tensor | None = None,
        hints: Sequence[Tensor] = (),
        gradients: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """The perturbation to be scaled by eps.

        Args:
            x: Images (N, 3, H, W) in [0, 1], of any height and width.
            eps: Budget of each image (N,), on the [0, 1] scale.
            targets: Target label of each (N,), where the network aims.
            hints: For each layer of the spec (N, channels, h, w).
            gradients: By the pixel (N, gradients, 3, H, W), where the spec has some.
            previous: The perturbation of the pass before, (N, 3, H, W); of a gated output alone.
        """
        if not self.spec.table.widths:
            return self._beside(gradients, x.new_zeros(()))
        written = self._written(x, eps, targets, hints, gradients)
        if self.spec.table.output.adds:
            return self._beside(gradients, written)
        a, b = written.chunk(2, dim=1)
        gate = b.sigmoid()
        p = a.tanh() * gate
        return p if previous is None else p + previous * (1 - gate)

    def _written(
        self,
        x: Tensor,
        eps: Tensor,
        targets: Tensor | None,
        hints: Sequence[Tensor],
        gradients: Tensor | None,
    ) -> Tensor:
        """By the layers: a and b, or u, (N, channels, H, W)."""
        height, width = x.shape[-2:]
        condition = None if self.condition is None else self.condition(eps, targets)
        seen = 2 * x - 1
        if gradients is not None:
            seen = torch.cat([seen, gradients.flatten(1, 2)], 1)
        features = self._decode(self._encode(self._padded(seen), condition), hints, condition)
        out = self.last(functional.silu(self.norm(features)))
        out = functional.pixel_shuffle(out, self.spec.table.stem_stride)
        out = out[..., :height, :width].reshape(len(x), -1, self.spec.channels, height, width)
        return self._head(out, eps).to(x.dtype)

    def _beside(self, gradients: Tensor | None, u: Tensor) -> Tensor:
        if gradients is not None:
            u = u + torch.einsum("g,ngchw->nchw", self.weights.to(u.dtype), gradients)
            if self.filters is not None:
                u = u + self.filters(gradients.flatten(1, 2)).to(u.dtype)
        smooth = (self.spec.table.sharpness * u).tanh()
        if self.spec.table.output is OutputForm.RESIDUAL:
            return smooth
        return u.sign().detach() + (smooth - smooth.detach())  # the latter is 0

    def _padded(self, x: Tensor) -> Tensor:
        """Edge pixels are repeated below and to the right until every level divides evenly."""
        multiple = self.spec.table.stem_stride << (len(self.spec.table.widths) - 1)
        down, right = (-side % multiple for side in x.shape[-2:])
        return functional.pad(x, (0, right, 0, down), mode="replicate") if down or right else x

    def _encode(self, x: Tensor, condition: Tensor | None) -> list[Tensor]:
        features = self.stem(x)
        taps: list[Tensor] = []
        for level, blocks in enumerate(self.encoder):
            if level:
                features = self.down[level - 1](features)
            features = self._through(blocks, features, condition)
            taps.append(features)
        return taps

    def _decode(
        self, taps: Sequence[Tensor], hints: Sequence[Tensor], condition: Tensor | None
    ) -> Tensor:
        mixed = [self._mixed(level, tap, hints) for level, tap in enumerate(taps)]
        features = self._through(self.bottleneck, mixed[-1], condition)
        for level in reversed(range(len(self.decoder))):
            enlarged = functional.interpolate(self.up[level](features), scale_factor=2.0)
            features = self._through(self.decoder[level], mixed[level] + enlarged, condition)
        return features

    def _mixed(self, level: int, tap: Tensor, hints: Sequence[Tensor]) -> Tensor:
        own = [
            functional.interpolate(hint, size=tap.shape[-2:], mode="bilinear")
            for layer, hint in zip(self.spec.hint, hints, strict=True)
            if layer.level == level
        ]
        mixed: Tensor = self.mix[level](torch.cat([tap, *own], 1))
        return mixed

    def _through(self, blocks: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
        for block in blocks.children():
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, condition, use_reentrant=False)
            else:
                x = block(x, condition)
        return x

    def _head(self, out: Tensor, eps: Tensor) -> Tensor:
        """(N, heads, C, H, W) to (N, C, H, W): the head of the nearest epsilon."""
        if self.spec.heads == 1:
            return out.squeeze(1)
        nearest = (255 * eps.unsqueeze(1) - self.levels.to(eps)).abs().argmin(1)
        index = nearest.view(-1, 1, 1, 1, 1).expand(-1, 1, *out.shape[2:])
        return out.gather(1, index).squeeze(1)


class _Condition(nn.Module):
    """Embeds eps (N,), and target labels (N,), as (N, embedding)."""

    labels: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        size = spec.table.embedding
        self.told_epsilon = spec.table.epsilon is not EpsilonInput.HEADS
        if self.told_epsilon:
            self.epsilon = nn.Sequential(nn.Linear(2, size), nn.SiLU(), nn.Linear(size, size))
        labels = spec.target_labels
        self.targets = None if labels is None else nn.Embedding(len(labels), size)
        self.register_buffer("labels", torch.tensor(labels or ()), persistent=False)

    def forward(self, eps: Tensor, targets: Tensor | None) -> Tensor:
        parts = []
        if self.told_epsilon:
            levels = 255 * eps
            # Below one level there is nothing to tell apart, and 0 has no logarithm.
            logarithm = levels.clamp_min(1).log2()
            parts.append(self.epsilon(torch.stack([levels / 16, logarithm / 4], 1)))
        if self.targets is not None:
            if targets is None:
                raise ValueError("a targeted network needs a target label for each image")
            known = targets.unsqueeze(1) == self.labels
            parts.append(self.targets(known.long().argmax(1)))
        return torch.stack(parts).sum(0)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, pre-activation (arXiv 1603.05027), conditioned."""

    def __init__(self, width: int, embedding: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(width // _GROUP, width) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.modulate = None if embedding is None else nn.Linear(embedding, 2 * width)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        residual = self.conv1(functional.silu(self.norm1(x)))
        residual = self.norm2(residual)
        if self.modulate is not None:
            scale, shift = self.modulate(condition).unsqueeze(-1).unsqueeze(-1).chunk(2, dim=1)
            residual = residual * (1 + scale) + shift
        out: Tensor = x + self.conv2(functional.silu(residual))
        return out


def _blocks(width: int, count: int, embedding: int | None) -> nn.ModuleList:
    return nn.ModuleList(_Block(width, embedding) for _ in range(count))


def _filters(channels: int, size: int) -> nn.Module | None:
    """From gradients (N, channels, H, W) to (N, 3, H, W), which begins as 0; None at size 1."""
    if size == 1:
        return None
    filters = nn.Conv2d(channels, COLOURS, size, padding=size // 2, bias=False)
    nn.init.zeros_(filters.weight)
    return filters


def _hint_channels(spec: NetworkSpec, level: int) -> int:
    return sum(layer.channels for layer in spec.hint if layer.level == level)
