"""How tests share workers: by pytest-xdist itself, as `make test` calls it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.leftovers import unmount_leftovers
from support.parts import group_of

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("tests/a/test_b.py::test_c", "tests/a/test_b.py"),
        ("tests/a/test_b.py::test_c[x-docker]", "tests/a/test_b.py"),
        ("tests/a/test_b.py::test_c[docker]", "tests/a/test_b.py docker"),
        ("tests/a/test_b.py::test_c[podman-box]", "tests/a/test_b.py podman"),
        ("t.py::test_c[gvisor-as-this-user-0.5-1]", "t.py gvisor-as-this-user"),
        ("t.py::test_c[gvisor-as-without-engine]", "t.py gvisor-as-without-engine"),
        ("t.py::test_c[dockerfile]", "t.py"),
        ("tests/sandbox/test_garbage.py::test_c[docker]", "alone"),
        ("tests/sandbox/test_engines.py::test_c", "alone"),
    ],
)
def test_what_is_made_for_a_module_or_a_backend_makes_a_group(name: str, group: str) -> None:
    assert group_of(name) == group


@pytest.mark.slow
def test_a_module_stays_with_one_worker_and_two_have_work() -> None:
    together = re.search(r"^PYTEST := .*/pytest (.*)", MAKEFILE, re.MULTILINE)
    assert together is not None
    modules = ["tests/sandbox/test_capture.py", "tests/sandbox/test_limits.py"]
    command = [sys.executable, "-m", "pytest", "-v", *together[1].split(), *modules]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    ran = set(re.findall(r"\[(gw\d)\].* PASSED (\S+\.py)::", done.stdout))
    assert sorted(module for _, module in ran) == modules
    assert len({worker for worker, _ in ran}) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts anything")
def test_mounts_of_a_dead_session_are_let_go_and_those_of_others_stay(tmp_path: Path) -> None:
    left = []
    for session, lock in {"dead": "0", "gone": None, "alive": str(os.getpid())}.items():
        place = tmp_path / session / "a_test0" / "disk"
        place.mkdir(parents=True)
        if lock is not None:
            (tmp_path / session / ".lock").write_text(lock)
        subprocess.run(["mount", "-t", "tmpfs", "small", str(place)], check=True)
        left.append(place)
    assert unmount_leftovers(tmp_path) == [left[1], left[0]]
    assert [place.is_mount() for place in left] == [False, False, True]
    subprocess.run(["umount", str(left[2])], check=True)
