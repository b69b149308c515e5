"""What happens to engines, and what dead harnesses left with them."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.backends import marked
from support.processes import processes

from advcomp.errors import (
    InvalidSubmission,
    SandboxError,
    SandboxTimeout,
    SandboxUnavailable,
)
from advcomp.sandbox.backends.container import Containers
from advcomp.sandbox.base import Limits, RunSpec
from advcomp.sandbox.box.identity import UidLease
from advcomp.sandbox.engine.client import Engine, open_engine, open_engines
from advcomp.sandbox.engine.hardening import container_walls
from advcomp.sandbox.engine.image_supply import EngineImages
from advcomp.sandbox.engine.orphans import owned, remove_orphans
from advcomp.sandbox.engine.ownership import OWNER
from advcomp.sandbox.limits.cgroups import owner_tag
from advcomp.sandbox.probe import open_backend

IMAGE = "advcomp/base"
LIMITS = Limits(wall_s=60, memory_bytes=256 << 20, output_bytes=1 << 20)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Daemon:
    """A Docker engine of the test's own, which may be restarted."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix://{folder}/socket"
        self._command = [
            # One that was restarted leaves its data mounted: in a namespace that ends with it.
            *("unshare", "--mount"),
            *("dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
            *("--pidfile", f"{folder}/pid", "--host", self.address),
            *("--bridge", "none", "--iptables=false", "--ip6tables=false"),
        ]
        self._log = folder / "log"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            until(self.answers)
        except AssertionError as error:
            said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise AssertionError(f"dockerd does not answer; it said: {said}") from error

    def answers(self) -> bool:
        asked = ["docker", "--host", self.address, "version"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def daemon(require: Callable[[str], None]) -> Iterator[Daemon]:
    require("docker")
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("only root can start an engine of its own")
    # A short path: its sockets lie deep in this folder, and the name of one has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))
    started = Daemon(folder)
    load = ["docker", "--host", started.address, "load", "--quiet"]
    try:
        started.start()
        with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
            subprocess.run(load, stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL)
        yield started
    finally:
        started.stop()
        subprocess.run(["umount", "-q", folder / "data"], check=False)
        shutil.rmtree(folder)


@pytest.mark.docker
@pytest.mark.slow
def test_an_engine_that_is_restarted_costs_a_try_and_no_verdict(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C2."""
    monkeypatch.setenv("DOCKER_HOST", daemon.address)
    engine = open_engine("docker")
    sandbox = Containers("docker", engine, own=IMAGE)
    mark = f"86404.{os.getpid()}"
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(sandbox.run, RunSpec(argv=("sleep", mark), limits=LIMITS))
        until(lambda: processes(f"sleep\0{mark}"))
        daemon.stop()
        daemon.start()
        with pytest.raises(SandboxError):
            lost.result()
    assert not processes(f"sleep\0{mark}")
    with sandbox.run(RunSpec(argv=("true",), limits=LIMITS, output="/output_images")) as again:
        assert again.result.exit_code == 0
    sandbox.close()
    assert owned(engine, "container") == {}


@pytest.mark.parametrize("name", marked("docker", "podman"))
def test_only_what_dead_harnesses_left_is_removed(
    name: str, require: Callable[[str], None]
) -> None:
    require(name)
    engine = open_engine(name)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    namespace = owner_tag().split("-")[0]
    owners = {
        "dead": f"{namespace}-{gone.pid}-12345",
        "recycled": f"{namespace}-{os.getpid()}-1",
        "living": owner_tag(),
        "elsewhere": f"1-{gone.pid}-12345",
    }
    made = {}
    try:
        for whose, owner in owners.items():
            label = ("--label", f"{OWNER}={owner}")
            made[whose] = engine.call("create", *label, IMAGE, "true").strip()
            engine.call("volume", "create", *label, f"advcomp-test-{os.getpid()}-{whose}")
        removed = remove_orphans(engine)
        left = {*owned(engine, "container"), *owned(engine, "volume")}
        for whose in owners:
            names = {made[whose][:12], f"advcomp-test-{os.getpid()}-{whose}"}
            if whose in ("dead", "recycled"):
                assert names <= set(removed)
                assert not names & left
            else:
                assert names <= left
    finally:
        for whose, container in made.items():
            # One by one: Podman stops, without an error, at the first that is gone.
            engine.call("rm", "--force", container)
            engine.call("volume", "rm", "--force", f"advcomp-test-{os.getpid()}-{whose}")


@pytest.mark.parametrize("name", marked("docker", "podman"))
def test_an_image_cannot_ask_for_variables_of_the_host(
    name: str, require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    require(name)
    engine = open_engine(name)
    monkeypatch.setenv("ADVCOMP_TEST_SECRET", "the-hosts")
    image = f"advcomp/test-variables:{os.getpid()}"
    ask = ["--change", "ENV ADVCOMP_TEST_SECRET=x NVIDIA_VISIBLE_DEVICES=all"]
    parent = engine.call("create", IMAGE, "true").strip()
    engine.call("commit", *ask, parent, image)
    box = None
    try:
        spec = RunSpec(argv=("true",), limits=LIMITS)
        asked = engine.image(image)
        options = container_walls(
            engine,
            asked,
            spec,
            user=UidLease(86404, 86404, None),
            code_bytes=0,
            labels={},
            gpus=(),
        )
        box = engine.call("create", *options, asked.id).strip()
        (said,) = engine.inspect("container", box)
        variables = dict(variable.partition("=")[::2] for variable in said["Config"]["Env"])
        assert variables.get("ADVCOMP_TEST_SECRET", "") == ""
        assert variables["NVIDIA_VISIBLE_DEVICES"] == "void"
    finally:
        engine.call("rm", "--force", parent, *filter(None, [box]))
        engine.call("image", "rm", "--force", image)


def test_an_engine_that_does_not_answer_in_time_is_our_failure(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.write_text("#!/bin/sh\nsleep 60\n")
    client.chmod(0o755)
    with pytest.raises(SandboxTimeout, match=r"docker version: no answer within 0\.2 s"):
        Engine("docker", str(client)).call("version", timeout_s=0.2)


@pytest.mark.parametrize("name", marked("docker", "podman"))
def test_an_engine_that_starts_no_container_does_not_work_whatever_images_it_has(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str], None]
) -> None:
    """Its entries would be rejected for what is not their fault."""
    require(name)
    client = tmp_path / name
    client.write_text(
        '#!/bin/sh\ncase " $* " in *" start "*) echo no newuidmap >&2; exit 1;;\n'
        '*" image inspect advcomp/"*) exit 1; esac\n'
        f'exec {shutil.which(name)} "$@"\n'
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxUnavailable, match="no newuidmap") as told:
        open_backend(name)
    assert any(problem.startswith("remedy: ") for problem in told.value.problems)


def test_an_engine_that_is_not_there_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("docker", "podman", "gvisor"):
        expected = rf"(?s){name}: not installed.*remedy: "
        with pytest.raises(SandboxUnavailable, match=expected) as told:
            open_engines(name)
        assert "apt-get install" in told.value.problems[-1]


@pytest.mark.parametrize(
    ("complaint", "error", "told"),
    [
        ("write /var/lib/x: no space left on device", OSError, "No space left on device"),
        ("invalid tar header", InvalidSubmission, "docker does not load it; to see why"),
    ],
)
def test_a_full_disk_of_an_engine_is_ours_and_what_it_refuses_is_the_entrys(
    tmp_path: Path, complaint: str, error: type[Exception], told: str
) -> None:
    client = tmp_path / "client"
    client.write_text(
        f'#!/bin/sh\ncase $1 in load) echo "Error: {complaint}" >&2; exit 1;;\n'
        "image) exit 1;; esac\n"
    )
    client.chmod(0o755)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/config.json").write_text("{}")
    with pytest.raises(error, match=told):
        EngineImages(Engine("docker", str(client))).load(tmp_path / "parts")


def test_a_client_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    mark = f"86405.{os.getpid()}"
    client = tmp_path / "client"
    client.write_text(f"#!/bin/sh\nsleep {mark} &\nsleep {mark}\n")
    client.chmod(0o755)
    start = time.monotonic()
    with pytest.raises(SandboxTimeout):
        Engine("docker", str(client)).call("version", timeout_s=0.5)
    assert time.monotonic() - start < 20
    until(lambda: not processes(f"sleep\0{mark}"))
