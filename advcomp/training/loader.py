"""Batches of one step after another, made between the steps or, ahead of them, by workers."""

import signal
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")

_AHEAD = 4
"""Batches that each worker has ready."""


class _Steps(Dataset[Batch], Generic[Batch]):
    """Batch number i is that of step i."""

    def __init__(self, batch_of: Callable[[int], Batch]) -> None:
        self._batch_of = batch_of

    def __getitem__(self, step: int) -> Batch:
        return self._batch_of(step)


def batches(
    batch_of: Callable[[int], Batch], steps: range, *, workers: int = 0, pinned: bool = False
) -> Iterator[Batch]:
    """The batches of some steps, in order.

    A batch is a function of its step alone, so who makes it does not matter.

    Args:
        batch_of: Makes the batch of a step, on the CPU.
        workers: How many processes make them; 0 for this one.
        pinned: Whether to put them where a GPU can fetch them without waiting: with the batch's
            own `pin_memory`.
    """
    loader: DataLoader[Batch] = DataLoader(
        _Steps(batch_of),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        pin_memory=pinned,
        worker_init_fn=_deafen,
    )
    return iter(loader)


def _deafen(_worker: int) -> None:
    """A signal to a worker is none to the process that it was forked from (`stopping`)."""
    signal.set_wakeup_fd(-1)
