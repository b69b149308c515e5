"""What `pip install advcomp` puts on a machine."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with all its folders."""
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "runs")
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("wheel") / "src", ignore=ignored))


@pytest.fixture(scope="module")
def wheel(source: Path) -> zipfile.ZipFile:
    """The wheel built from it; needs no network."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(source.parent), str(source)]
    subprocess.run(command, check=True, timeout=300)
    (built,) = source.parent.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_only_top_level_is_advcomp(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"advcomp"}
    assert len(tops) == 2


def test_every_file_of_the_package_is_in(source: Path, wheel: zipfile.ZipFile) -> None:
    """Types, templates and whatever else the installed command reads, besides the modules."""
    files = (path for path in (source / "advcomp").rglob("*") if path.is_file())
    expected = {path.relative_to(source).as_posix() for path in files}
    assert "advcomp/py.typed" in expected
    assert {name for name in wheel.namelist() if name.startswith("advcomp/")} == expected


def test_the_first_process_of_containers_can_be_executed_when_installed(
    wheel: zipfile.ZipFile,
) -> None:
    """pip keeps the exec bits that the wheel has."""
    for architecture in ("x86_64", "aarch64"):
        member = wheel.getinfo(f"advcomp/sandbox/engine/first/first-{architecture}")
        assert member.external_attr >> 16 & 0o111 == 0o111


def test_the_base_install_brings_no_torch(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    needed = message_from_bytes(wheel.read(name)).get_all("Requires-Dist", [])
    base = {need.split(">")[0] for need in needed if "extra ==" not in need}
    assert {"numpy", "pillow"} <= base
    assert not base & {"torch", "torchvision", "scikit-learn", "safetensors", "mpi4py"}


def test_everything_that_is_installed_has_an_exact_version() -> None:
    """Each requirement of pyproject.toml stands in constraints.txt, with `==`."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert all(pin.count("==") == 1 for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needed = {need for list_ in [project["dependencies"], *extras] for need in list_}
    names = {
        re.split(r"[>=\[]", need)[0].lower() for need in needed if not need.startswith("advcomp[")
    }
    assert names <= {pin.split("==")[0].lower() for pin in pins}
