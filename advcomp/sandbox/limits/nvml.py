"""What is on NVIDIA's GPUs, as their driver says through NVML (nvidia-ml-py, the extra `gpu`).

NVML is a library of the driver. It is opened for every look and closed again.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from advcomp.errors import SandboxError

__all__ = ["GpuUse", "gpu_use"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """What is on one GPU.

    Args:
        memory_mib: Memory in use, whole MiB.
        processes: How many compute on it.
    """

    memory_mib: int
    processes: int


def gpu_use(uuids: Collection[str]) -> Mapping[str, GpuUse]:
    """What is on each of some GPUs, by UUID.

    Raises:
        SandboxError: nvidia-ml-py is missing, or the driver does not answer or knows no such GPU.
    """
    with _driver() as nvml:
        found = {}
        for uuid in uuids:
            gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)
            found[uuid] = GpuUse(
                memory_mib=nvml.nvmlDeviceGetMemoryInfo(gpu).used >> 20,
                processes=len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
            )
        return found


@contextlib.contextmanager
def _driver() -> Iterator[ModuleType]:
    """Within it NVML is open, and what it refuses is our failure."""
    try:
        import pynvml
    except ModuleNotFoundError as error:
        raise SandboxError(
            "GPUs: expected nvidia-ml-py, which asks the driver what is on them; it is not "
            "installed; type: pip install 'advcomp[gpu]'"
        ) from error
    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise SandboxError(
            f"GPUs: expected NVIDIA's driver to say what is on them; got: {error}; try nvidia-smi"
        ) from error
