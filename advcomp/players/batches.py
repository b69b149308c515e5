"""How many images go through a function at once: what a box has room for, if more are sooner.

The need is measured, not guessed: one image goes through the function, and the bytes of all
tensors that are alive at once are counted. They depend on the function and on the image's size
alone, so that every run of an entry has the same batches, and with them the same rounding.
"""

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MOST = 50
"""Images at once of a small network: more are hardly sooner."""

WORTH_BYTES = 512 << 20
"""Of tensors at once: a large network is no sooner with more images than they hold."""

MEMORY_VARIABLE = "ADVCOMP_MEMORY_BYTES"
"""The box's limit, in a box's environment."""

_BESIDE = 1.5
"""By how much a process grows for a byte of tensors: other layouts in kernels, torn memory."""

_OF_THE_ROOM = 0.8
"""How much of the room that is left is used."""

_GRADIENTS = 2
"""After so many gradients a function is taken to repeat itself."""

_COPIES = 4
"""Of an image in float32, in what reads and writes it."""

_NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "could not create a memory")
"""What PyTorch, CUDA, C++ and oneDNN say."""


def batch_size_for(call: Callable[[Tensor], object], image: Tensor) -> int:
    """How many images shall go through `call` at once, 1 to `MOST`.

    Args:
        call: Takes images (N, 3, H, W).
        image: One of them (1, 3, H, W).
    """
    with _same_draws():
        need = peak_bytes(lambda: call(image)) + _COPIES * image.nbytes
    most = min(WORTH_BYTES, room_bytes(os.environ) / _BESIDE)
    return max(1, min(MOST, int(most // need)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory, whoever raised it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _NO_MEMORY)


def room_bytes(environment: Mapping[str, str]) -> float:
    """What this process may still take; infinite where no box says what it may."""
    limit = environment.get(MEMORY_VARIABLE)
    if limit is None:
        return float("inf")
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    # The entry's own files, copied into the box, are in its memory, too.
    copied = sum(file.stat().st_size for file in Path().rglob("*") if file.is_file())
    used = resident_pages * os.sysconf("SC_PAGE_SIZE") + copied
    return max(0.0, _OF_THE_ROOM * (int(limit) - used))


def peak_bytes(call: Callable[[], object]) -> int:
    """The bytes of all tensors made within `call` that are alive at once, at most.

    It is cut short where it begins to repeat itself. 0 where it fails: then it fails in earnest,
    too, or cannot be looked at.
    """
    watch = _Alive()
    try:
        with watch:
            call()
    except _Enough:
        pass
    except Exception:
        # Whatever it is, the run itself will tell.
        return 0
    return watch.peak


class _Enough(BaseException):
    """Ends a function that has been seen long enough; no `except Exception` stops it."""


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the memory of tensors while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}
        self._now = 0
        self._gradients = 0
        self._going_back = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Or PyTorch would import its compiler, which takes three seconds, to leave this alone."""
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run the operation, and count what it made."""
        going_back = torch._C._current_graph_task_id() != -1
        if self._going_back and not going_back:
            self._gradients += 1
            if self._gradients == _GRADIENTS:
                raise _Enough
        self._going_back = going_back
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
                self._count(leaf.untyped_storage())
        self.peak = max(self.peak, self._now)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


@contextmanager
def _same_draws() -> Iterator[None]:
    """Leaves PyTorch's global generator as it was."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
