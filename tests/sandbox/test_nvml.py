"""What is on GPUs: asked through nvidia-ml-py of a library that stands in for the driver's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Require

from advcomp.errors import SandboxError
from advcomp.sandbox.limits.nvml import gpu_use

DRIVER = """\
// Two GPUs as nvml.h has them: 4 MiB are in use on the first; on the other 4000, by one process.
#include <string.h>
struct memory { unsigned long long total, free, used; };
struct process { unsigned pid; unsigned long long bytes; unsigned gpu, compute; };
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "Not Found"; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **gpu) {
  *gpu = (void *)(strcmp(uuid, "GPU-a") ? 2L : 1L);
  return strcmp(uuid, "GPU-a") && strcmp(uuid, "GPU-b") ? 6 : 0;
}
int nvmlDeviceGetMemoryInfo(void *gpu, struct memory *info) {
  info->used = (gpu == (void *)1L ? 4ull : 4000ull) << 20;
  info->total = 80ull << 30;
  info->free = info->total - info->used;
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *count, struct process *found) {
  unsigned room = *count;
  *count = gpu != (void *)1L;
  if (room < *count) return 7;
  if (*count) found[0] = (struct process){4242, 3900ull << 20, 0, 0};
  return 0;
}
"""


def asked(driver: Path, uuids: str) -> str:
    program = f"from advcomp.sandbox.limits.nvml import gpu_use; print(gpu_use({uuids!r}.split()))"
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_memory_and_processes_are_those_that_the_driver_tells(
    tmp_path: Path, require: Require
) -> None:
    require("compiler")
    compiler = shutil.which("g++") or "clang++"
    library = str(tmp_path / "libnvidia-ml.so.1")
    words = [compiler, "-x", "c", "-shared", "-fPIC", "-o", library, "-"]
    subprocess.run(words, input=DRIVER, text=True, check=True, timeout=60)
    assert asked(tmp_path, "GPU-a GPU-b") == (
        "{'GPU-a': GpuUse(memory_mib=4, processes=0), "
        "'GPU-b': GpuUse(memory_mib=4000, processes=1)}\n"
    )
    assert "NVIDIA's driver to say what is on them; got: Not Found" in asked(tmp_path, "GPU-c")


def test_a_machine_without_the_driver_is_told() -> None:
    with pytest.raises(SandboxError, match="expected NVIDIA's driver to say what is on them"):
        gpu_use(["GPU-of-nobody"])


def test_who_lacks_nvidia_ml_py_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SandboxError, match=r"pip install 'advcomp\[gpu\]'"):
        gpu_use(["GPU-a"])
