"""Ranks: how they find each other, share the work, and fail together.

torch.distributed moves the tensors (NCCL between GPUs, gloo between CPUs); `launch.py` tells who
started the ranks.

Ranks form a grid, data x model (torch's DeviceMesh). Every rank holds the whole module that is
trained and its share of the batch. Losses are divided by the size of the whole batch and gradients
are summed over the ranks, so that the step is the step of one process. Only batch norm sees the
difference: in training it normalises with the statistics of the rank's share, as in
DistributedDataParallel, and the running statistics are averaged over the ranks. The ranks of a
*group* (one row of the grid) put their shares together and split what the module is trained
against: target classifiers.

An exception on one rank ends all: it says its message and its rank, and takes the job down by
MPI_Abort, or by leaving, which torchrun and srun (--kill-on-bad-exit) notice. What is wrong with a
file all ranks find, so the others give the first one time to say it. A rank that waits meanwhile
for one that left, was killed or hangs loses touch with it, says so and leaves as well. No wait is
longer than the timeout.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, distributed
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh

from advcomp.errors import AdvcompError, InvalidConfig
from advcomp.training.launch import Launch, let_others_speak, let_the_first_speak


class _LostTouch(AdvcompError):
    """Another rank cannot be heard, perhaps the first."""


class Pending(Protocol):
    """A message that is under way."""

    def wait(self) -> None:
        """Return when it is there; on a GPU, when what follows will see it."""


@dataclass(frozen=True, slots=True)
class _Sent:
    work: distributed.Work

    def wait(self) -> None:
        with _in_touch():
            self.work.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's place in the grid.

    Args:
        rank, size: Among all.
        model_ranks: Ranks of a group, which split the target classifiers.
        group_number: Which of the groups this rank's is.
        place: Which of its group this rank is.
        device: What this rank computes on.
        group: torch.distributed's handle of the own group; None where it is this rank alone.
    """

    rank: int = 0
    size: int = 1
    model_ranks: int = 1
    group_number: int = 0
    place: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: distributed.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that shows and writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of n images are this rank's; the shares differ by one image at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def group_rows(self, batch: int) -> slice:
        """Which images of the global batch this rank's group makes; its own are among them."""
        share = batch * self.model_ranks // self.size
        first = self.group_number * share
        return slice(first, first + share)

    def own_classifiers(self, count: int) -> range:
        """Which of the target classifiers this rank holds."""
        return range(self.place, count, self.model_ranks)

    def all_gather(self, x: Tensor) -> Tensor:
        """The group's images, of every rank's (n, ...); gradients of all come back to each."""
        return x if self.group is None else _gather(x, self)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in one message.

        Args:
            tensors: Of one type; the same shapes on all ranks.
        """
        if self.size > 1 and tensors:
            with _in_touch():
                _sum_over_ranks(tensors)

    def start_all_reduce(self, x: Tensor) -> Pending | None:
        """Begin to replace x by its sum over all ranks; None where this rank is alone."""
        if self.size == 1:
            return None
        with _in_touch():
            work = distributed.all_reduce(x, async_op=True)
        assert work is not None
        return _Sent(work)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor of floating-point numbers by its mean over all ranks."""
        if self.size > 1:
            kept = [tensor for tensor in tensors if tensor.is_floating_point()]
            self.all_reduce(kept)
            for tensor in kept:
                tensor.div_(self.size)

    def total(self, *numbers: float) -> list[float]:
        """The sum over all ranks of each of a few numbers."""
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.all_reduce([sums])
        return list(map(float, sums.tolist()))

    def each(self, number: float) -> list[float]:
        """This number of every rank."""
        return self.total(*(number if rank == self.rank else 0.0 for rank in range(self.size)))

    def barrier(self) -> None:
        """Return when all ranks are here."""
        if self.size > 1:
            with _in_touch():
                distributed.barrier()


def _sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


class _Gather(torch.autograd.Function):
    """All-gather in a group. Backward: the sum over the group, and of it the own part.

    torch.distributed.nn's fails in a group that lacks rank 0 under gloo.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(x) for _ in range(ranks.model_ranks)]
        with _in_touch():
            distributed.all_gather(parts, x.contiguous(), group=ranks.group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ranks: Ranks = ctx.ranks
        gradient = gradient.contiguous()
        with _in_touch():
            distributed.all_reduce(gradient, group=ranks.group)
        return gradient.chunk(ranks.model_ranks)[ranks.place], None


def _gather(x: Tensor, ranks: Ranks) -> Tensor:
    gathered: Tensor = _Gather.apply(x, ranks)
    return gathered


@contextmanager
def _in_touch() -> Iterator[None]:
    """Within it, a rank that left, was killed or hangs is told as such.

    Raises:
        AdvcompError: The connection is lost, or the recipe's timeout has passed.
    """
    try:
        yield
    except RuntimeError as error:
        raise _LostTouch(
            "lost touch with another rank, which was killed, hangs, or says itself what is wrong; "
            "the last checkpoint is intact and the same command goes on from it: "
            f"{_first_line(error)}"
        ) from error


@contextmanager
def abort_together(launch: Launch) -> Iterator[None]:
    """Within it, an exception on one rank ends the job on all with its message.

    Alone, exceptions are passed on.
    """
    try:
        yield
    except BaseException as error:
        if launch.size == 1:
            raise
        _end_all(launch, error)


@contextmanager
def joined_ranks(
    launch: Launch, *, model_ranks: int = 1, device: str = "auto", timeout_s: float = 600
) -> Iterator[Ranks]:
    """This rank's place among all, once every rank has come.

    Raises:
        InvalidConfig: The ranks make no grid, or there is no such device.
        AdvcompError: A rank did not come in time; says which.
    """
    if launch.size % model_ranks:
        raise InvalidConfig(
            f"[parallel] model_ranks: expected a divisor of the number of ranks, {launch.size}; "
            f"got {model_ranks}"
        )
    chosen = device_of(device, launch.local_rank)
    if launch.size == 1:
        yield Ranks(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    timeout = timedelta(seconds=timeout_s)
    distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        store=_store(launch, timeout),
        rank=launch.rank,
        world_size=launch.size,
        timeout=timeout,
    )
    try:
        shape = (launch.size // model_ranks, model_ranks)
        mesh = init_device_mesh(chosen.type, shape, mesh_dim_names=("data", "model"))
        yield Ranks(
            rank=launch.rank,
            size=launch.size,
            model_ranks=model_ranks,
            group_number=mesh.get_local_rank("data"),
            place=mesh.get_local_rank("model"),
            device=chosen,
            group=mesh.get_group("model") if model_ranks > 1 else None,
        )
    finally:
        distributed.destroy_process_group()


def device_of(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name, for one of the ranks of a machine.

    Args:
        name: "auto" takes GPUs where there are any; "cuda" and "auto" one for each rank.
        local_rank: Which rank of the machine.

    Raises:
        InvalidConfig: This machine has none.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and gpus == 0):
        return torch.device("cpu")
    known = {f"cuda:{index}": index for index in range(gpus)}
    if gpus and name in ("auto", "cuda"):
        return torch.device("cuda", local_rank % gpus)
    if name not in known:
        raise InvalidConfig(
            'device: expected "auto", "cpu" or a GPU of this machine such as "cuda" or "cuda:0"; '
            f'got "{name}" on one with {gpus}'
        )
    return torch.device("cuda", known[name])


def _store(launch: Launch, timeout: timedelta) -> Store:
    """Where ranks leave their addresses; here each says that it is there."""
    try:
        store = _open_store(launch, timeout)
    except (distributed.DistError, RuntimeError) as error:
        raise _LostTouch(
            f"expected rank 0 to listen at {launch.host}:{launch.port} within "
            f"{timeout.total_seconds():.0f} s; it does not: {_first_line(error)}"
        ) from error
    present = [f"present/{rank}" for rank in range(launch.size)]
    store.set(present[launch.rank], "")
    try:
        store.wait(present, timeout)
    except (distributed.DistError, RuntimeError) as error:
        missing = [str(rank) for rank, key in enumerate(present) if not store.check([key])]
        raise AdvcompError(
            f"expected {launch.size} ranks within {timeout.total_seconds():.0f} s; missing: "
            f"rank {', '.join(missing)}"
        ) from error
    return store


def _open_store(launch: Launch, timeout: timedelta) -> Store:
    def listen(port: int, serves: bool) -> TCPStore:
        return TCPStore(launch.host, port, launch.size, serves, timeout, wait_for_workers=False)

    if launch.mpi is None:
        return listen(launch.port, launch.serves and launch.rank == 0)
    if launch.rank == 0:
        store = listen(0, True)
        launch.mpi.bcast(store.port, root=0)
        return store
    return listen(launch.mpi.bcast(None, root=0), False)


def _end_all(launch: Launch, error: BaseException) -> NoReturn:
    """Say what is wrong, and take the job down; nothing that could wait is cleaned up."""
    problems = error.problems if isinstance(error, AdvcompError) else (_described(error),)
    if isinstance(error, _LostTouch):
        let_others_speak()
    elif isinstance(error, AdvcompError):
        let_the_first_speak(launch.rank)
    for text in problems:
        print(f"advcomp: rank {launch.rank}: {text}", file=sys.stderr)
    if not isinstance(error, AdvcompError | KeyboardInterrupt):
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stderr.flush()
    code = error.exit_code if isinstance(error, AdvcompError) else 1
    if launch.mpi is not None:
        launch.mpi.Abort(code)
    os._exit(code)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
