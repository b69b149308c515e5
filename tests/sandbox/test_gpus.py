"""GPUs without a GPU: the driver's files, what it says, tools' output and locks, as recorded."""

import multiprocessing
import os
import textwrap
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from advcomp.errors import SandboxError
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.sandbox.limits import gpus as module
from advcomp.sandbox.limits.gpus import (
    Gpu,
    Gpus,
    bubblewrap_arguments,
    cdi_arguments,
    docker_arguments,
    parse_cdi,
    parse_libraries,
)
from advcomp.sandbox.limits.nvml import GpuUse

A, B = "GPU-6e7b0a5c-0b57-9d5b-8d5c-4f1f3c9a2b10", "GPU-0f3c2d11-7a44-4b9e-a1d2-9c5e8b7f6a21"
INFORMATION = """\
Model: \t\t NVIDIA H200
IRQ:   \t\t 214
GPU UUID: \t {uuid}
Video BIOS: \t 96.00.a5.00.03
Bus Type: \t PCIe
DMA Size: \t 52 bits
DMA Mask: \t 0xfffffffffffff
Bus Location: \t 0000:{bus}:00.0
Device Minor: \t {minor}
GPU Firmware: \t 570.86.15
GPU Excluded:\t {excluded}
"""
LDCONFIG = """\
1012 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libnvidia-ml.so.1
\tlibnvidia-ptxjitcompiler.so.1 (libc6,x86-64) => /opt/driver/libnvidia-ptxjitcompiler.so.1
\tlibcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1
\tlibcuda.so (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so
\tlibcudart.so.12 (libc6,x86-64) => /opt/cuda/lib64/libcudart.so.12
\tlibc.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => /lib/x86_64-linux-gnu/libc.so.6
"""
CDI = f"""\
INFO[0000] Found 4 CDI devices
nvidia.com/gpu=0
nvidia.com/gpu={A}
nvidia.com/gpu={B}
nvidia.com/gpu=all
"""


class Machine:
    """Files as a driver with two GPUs makes them, and what it says is on them."""

    def __init__(self, folder: Path) -> None:
        self.driver, self.locks = folder / "driver", folder / "locks"
        for minor, (uuid, bus) in enumerate(((A, "1b"), (B, "43"))):
            self.tell(bus, uuid=uuid, minor=minor)
        self.say(memory=(4, 4))
        self.gpus = Gpus(self.driver, self.locks, self.use_of)

    def tell(self, bus: str, *, uuid: str, minor: int, excluded: str = "No") -> None:
        file = self.driver / f"0000:{bus}:00.0/information"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(INFORMATION.format(uuid=uuid, bus=bus, minor=minor, excluded=excluded))

    def say(self, *, memory: tuple[int, int], busy: str = "") -> None:
        self.uses = {
            uuid: GpuUse(memory_mib=used, processes=int(uuid == busy))
            for uuid, used in zip((A, B), memory, strict=True)
        }

    def use_of(self, uuids: Collection[str]) -> dict[str, GpuUse]:
        if not self.uses:
            raise SandboxError("GPUs: the driver is out")
        return {uuid: self.uses[uuid] for uuid in uuids}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(module, "CLEAN_S", 0.0)
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    return Machine(tmp_path)


FIRST, SECOND = Gpu(0, A, "NVIDIA H200"), Gpu(1, B, "NVIDIA H200")


def test_the_driver_tells_its_gpus(machine: Machine) -> None:
    assert machine.gpus.found() == [FIRST, SECOND]
    machine.tell("43", uuid=B, minor=1, excluded="Yes")
    assert machine.gpus.found() == [FIRST]


def test_too_few_gpus_are_told_with_what_was_looked_at(machine: Machine, tmp_path: Path) -> None:
    assert machine.gpus.obstacle(2) is None
    assert "NVIDIA H200, NVIDIA H200" in (machine.gpus.obstacle(3) or "")
    nowhere = Gpus(tmp_path / "none", machine.locks).obstacle(1) or ""
    assert "none: no GPU" in nowhere
    machine.uses.clear()
    assert machine.gpus.obstacle(1) == "GPUs: the driver is out"


def test_a_gpu_is_lent_to_one_at_a_time(machine: Machine) -> None:
    with machine.gpus.lent(1) as mine, machine.gpus.lent(1) as others:
        assert {*mine, *others} == {FIRST, SECOND}
    with machine.gpus.lent(2) as all_of_them:
        assert all_of_them == (FIRST, SECOND)


def test_none_is_lent_where_none_is_asked_for(tmp_path: Path) -> None:
    with Gpus(tmp_path, tmp_path / "locks").lent(0) as gpus:
        assert gpus == ()
    assert not (tmp_path / "locks").exists()


def hold(machine: Machine, ready: "Callable[[], None]") -> None:
    with machine.gpus.lent(2):
        ready()
        multiprocessing.Event().wait()


def test_a_loan_ends_with_its_process_however_it_dies(machine: Machine) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(machine, ready.set))
    holder.start()
    assert ready.wait(30)
    holder.kill()
    with machine.gpus.lent(2) as gpus:  # waits for it
        assert len(gpus) == 2
    holder.join(30)


@pytest.mark.parametrize("left", [{"memory": (4000, 4)}, {"memory": (4, 4), "busy": A}])
def test_a_gpu_that_is_left_dirty_is_set_aside_until_it_is_clean(
    machine: Machine, left: dict[str, object]
) -> None:
    def leave_dirty() -> None:
        with machine.gpus.lent(1) as gpus:
            assert gpus == (FIRST,)
            machine.say(**left)  # type: ignore[arg-type]

    with pytest.raises(SandboxError, match=rf"{A}: still in use .* set aside"):
        leave_dirty()
    with machine.gpus.lent(1) as gpus:
        assert gpus == (SECOND,)
    with pytest.raises(SandboxError, match="expected 2 that work, got 1"), machine.gpus.lent(2):
        pass
    machine.say(memory=(20, 4))
    with machine.gpus.lent(2) as gpus:
        assert gpus == (FIRST, SECOND)


def test_a_driver_that_does_not_answer_is_our_failure(machine: Machine) -> None:
    machine.uses.clear()
    with pytest.raises(SandboxError, match="the driver is out"), machine.gpus.lent(1):
        pass


def test_the_tools_output_is_read_as_it_is_printed() -> None:
    assert parse_cdi(CDI) == {A, B}
    assert parse_cdi("INFO[0000] Found 0 CDI devices\n") == set()


def test_the_drivers_libraries_are_found_and_no_others() -> None:
    assert list(map(str, parse_libraries(LDCONFIG))) == [
        "/lib/x86_64-linux-gnu/libcuda.so",
        "/lib/x86_64-linux-gnu/libcuda.so.1",
        "/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
        "/opt/driver/libnvidia-ptxjitcompiler.so.1",
    ]


def test_engines_are_told_uuids() -> None:
    assert docker_arguments([FIRST, SECOND]) == ["--gpus", f'"device={A},{B}"']
    assert docker_arguments([]) == []
    assert cdi_arguments([FIRST, SECOND]) == [
        *("--device", f"nvidia.com/gpu={A}"),
        *("--device", f"nvidia.com/gpu={B}"),
    ]


def test_bubblewrap_shows_the_nodes_lent_and_libraries_it_does_not_show_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    (tmp_path / "ldconfig").write_text(f"#!/bin/sh\ncat <<'END'\n{LDCONFIG}END\n")
    (tmp_path / "ldconfig").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = bubblewrap_arguments([SECOND], [Path("/usr"), Path("/lib")], tmp_path)
    assert words == [
        *("--dev-bind", f"{tmp_path}/nvidia1", "/dev/nvidia1"),
        *("--dev-bind", f"{tmp_path}/nvidiactl", "/dev/nvidiactl"),
        *("--dev-bind", f"{tmp_path}/nvidia-uvm", "/dev/nvidia-uvm"),
        *("--ro-bind", *["/opt/driver/libnvidia-ptxjitcompiler.so.1"] * 2),
    ]
    assert bubblewrap_arguments([], [], tmp_path) == []


def test_a_box_is_not_made_without_the_gpus_it_asks_for(sandbox: Sandbox) -> None:
    if Gpus().obstacle(99) is None:
        pytest.skip("this machine has a hundred GPUs")
    limits = Limits(wall_s=5, memory_bytes=1 << 28, gpus=99)
    with pytest.raises(SandboxError, match="GPUs: expected 99 that work, got"):
        sandbox.run(RunSpec(argv=("true",), limits=limits))


@pytest.mark.gpu
def test_cuda_works_in_a_box_and_only_the_gpu_lent_is_there(sandbox: Sandbox) -> None:
    if (obstacle := Gpus().obstacle(1)) is not None:
        pytest.skip(f"no GPU: {obstacle}")
    program = textwrap.dedent("""
        import torch
        print(torch.cuda.device_count(), float(torch.ones(8, device="cuda").sum()))
    """)
    limits = Limits(wall_s=120, memory_bytes=8 << 30, gpus=1, output_bytes=1 << 20)
    with sandbox.run(RunSpec(argv=("python", "-c", program), limits=limits)) as run:
        assert run.result.log == b"1 8.0\n"
