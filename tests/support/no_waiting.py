"""What would make the host wait for a GPU, found without one: on torch's device "meta".

Its tensors have no numbers, so that code that asks for one fails. A copy to it waits for nothing;
that to a GPU would, unless it is `non_blocking`, and is refused here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NOWHERE = torch.device("meta")


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = [each.device for each in args if isinstance(each, Tensor)]
        made = func(*args, **kwargs)
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            waits = not (kwargs.get("non_blocking") or any(each is True for each in args))
            assert not (waits and {*given, made.device} > {NOWHERE}), "a copy that is waited for"
        return made


class _Made(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            assert made.device != NOWHERE, "numbers that are copied to the device, and waited for"
        return made


@contextmanager
def no_waiting() -> Iterator[None]:
    """Within it, what is on the device `NOWHERE` may not make the host wait.

    Raises:
        AssertionError, RuntimeError: It would.
    """
    with _Copies(), _Made():  # type: ignore[no-untyped-call]
        yield


@contextmanager
def no_waiting_for_a_gpu() -> Iterator[None]:
    """The same on a real GPU, told by torch.

    Raises:
        RuntimeError: The host would wait.
    """
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
