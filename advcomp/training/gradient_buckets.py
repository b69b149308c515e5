"""Gradients, summed over the ranks while the backward pass still runs.

They lie one after another in a few flat *buckets*, of which each parameter's gradient is a view:
a bucket travels in one message, and nothing is copied. A bucket leaves as soon as its last
gradient is there, behind the buckets before it, so that all ranks send in one order.

As in DistributedDataParallel (Li et al. 2020, arXiv 2006.15704, section 3.2), which would take the
mean, and where ranks with no image or with other unused parameters would need care of their own.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from advcomp.training.ranks import Pending, Ranks

_BUCKET_BYTES = 25 * 2**20


@dataclass(slots=True, eq=False)
class _Bucket:
    flat: Tensor
    parameters: int
    missing: int = 0
    sent: Pending | None = field(default=None)


class GradientBuckets:
    """The gradients of a module's trained parameters; a parameter without one counts as zero.

    Args:
        module: Where it is on its device, in its type and memory format already.
        ranks: Over which is summed.
        bucket_bytes: How large a bucket grows; a larger gradient has one of its own.
    """

    def __init__(
        self, module: nn.Module, ranks: Ranks, *, bucket_bytes: int = _BUCKET_BYTES
    ) -> None:
        self._ranks = ranks
        self._buckets: list[_Bucket] = []
        self._next = 0
        # Backward comes to the last parameters first.
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for group in _grouped(trained[::-1], bucket_bytes):
            self._buckets.append(self._bucket_of(group))
        self.zero()

    def _bucket_of(self, parameters: list[nn.Parameter]) -> _Bucket:
        sizes = [parameter.numel() for parameter in parameters]
        bucket = _Bucket(parameters[0].new_zeros(sum(sizes)), len(parameters))
        start = 0
        for parameter, size in zip(parameters, sizes, strict=True):
            # With the parameter's strides: the fused optimizer walks both as they lie.
            parameter.grad = bucket.flat.as_strided(parameter.shape, parameter.stride(), start)
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda _, b=bucket: self._arrived(b)
            )
            start += size
        return bucket

    def zero(self) -> None:
        """Forget the last step's."""
        self._next = 0
        for bucket in self._buckets:
            bucket.flat.zero_()
            bucket.missing, bucket.sent = bucket.parameters, None

    def finish(self) -> None:
        """Return when every gradient is the sum over all ranks; to be called after backward."""
        self._send_until(len(self._buckets))
        for bucket in self._buckets:
            if bucket.sent is not None:
                bucket.sent.wait()

    def _arrived(self, bucket: _Bucket) -> None:
        bucket.missing -= 1
        ready = self._next
        while ready < len(self._buckets) and self._buckets[ready].missing == 0:
            ready += 1
        self._send_until(ready)

    def _send_until(self, end: int) -> None:
        for bucket in self._buckets[self._next : end]:
            bucket.sent = self._ranks.start_all_reduce(bucket.flat)
        self._next = max(self._next, end)


def _grouped(parameters: list[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """In their order; those of a group share a type and, together, come to no more bytes."""
    groups: list[list[nn.Parameter]] = []
    kind: tuple[torch.dtype, torch.device] | None = None
    room = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if (parameter.dtype, parameter.device) != kind or size > room:
            groups.append([])
            kind, room = (parameter.dtype, parameter.device), bucket_bytes
        groups[-1].append(parameter)
        room -= size
    return groups
