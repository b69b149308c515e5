"""What boxes start from is compiled before they start."""

import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import pytest

import advcomp
from advcomp.sandbox.box.bytecode import compile_package
from advcomp.sandbox.probe import open_backend


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/module.py"):
        (folder / name).write_text("VALUE = 1\n")
    (folder / "damaged.py").write_text("=")
    return folder


def compiled(package: Path) -> set[str]:
    return {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if Path(cache_from_source(str(path))).exists()
    }


def test_a_package_is_compiled_as_far_as_it_can_be(
    package: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    compile_package(package)
    assert compiled(package) == {"__init__.py", "inner/__init__.py", "inner/module.py"}
    assert capfd.readouterr() == ("", "")


def test_where_python_is_to_write_no_bytecode_none_is_written(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    compile_package(package)
    assert compiled(package) == set()


def test_boxes_of_bubblewrap_find_advcomp_compiled(
    require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("bubblewrap")
    rare = Path(advcomp.__file__).parent / "players" / "tsail.py"  # which no other test waits for
    cached = Path(cache_from_source(str(rare)))
    cached.unlink(missing_ok=True)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    open_backend("bubblewrap").close()
    assert cached.exists()
