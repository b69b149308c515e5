"""The processes of one training run: one alone, or those that torchrun started together.

Every rank holds the whole module and its share of each batch. Losses are divided by the size of
the whole batch and gradients are added up over the ranks, so that the step is the step of one
process. Only batch norm sees the difference: in training it normalises with the statistics of
the rank's share, as in DistributedDataParallel, and the running statistics that a classifier
keeps are averaged over the ranks.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn

from advcomp.errors import InvalidConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The place of this process among `count`, and the device that it computes on."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def share(self, n: int) -> slice:
        """Which of n images are this rank's; the shares differ by one image at most."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks; all ranks give the same shapes."""
        if self.count > 1:
            sum_over_ranks(tensors)

    def add_up_gradients(self, module: nn.Module) -> None:
        """Give every parameter the sum of its gradients; none counts as zero."""
        if self.count == 1:
            return
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.add_up([parameter.grad for parameter in trained if parameter.grad is not None])

    def wait(self) -> None:
        """Return when all ranks are here."""
        if self.count > 1:
            distributed.barrier()

    def average_statistics(self, module: nn.Module) -> None:
        """Average what the module keeps beside its parameters: the running statistics."""
        kept = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        self.add_up(kept)
        for buffer in kept if self.count > 1 else ():
            buffer.div_(self.count)


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks of torch.distributed, in one message.

    Args:
        tensors: Of one type; the same shapes on all ranks.
    """
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def joined_ranks(device: str = "auto") -> Iterator[Ranks]:
    """This process's place, joined with the others where torchrun started it.

    Args:
        device: "auto" takes GPUs where there are any, one for each rank of a machine.

    Raises:
        InvalidConfig: This machine has no such device.
    """
    chosen = _device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(rank=distributed.get_rank(), count=distributed.get_world_size(), device=chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidConfig(
            f'device: expected "auto", "cpu" or a GPU of this machine such as "cuda:0"; '
            f'got "{name}" ({reason})'
        ) from error
    return device
