"""What results say of the interpreter that boxes show."""

import sys
from pathlib import Path

import numpy as np
import pytest

from advcomp.sandbox.box.shown import interpreter_versions


def test_versions_are_those_of_installed_packages_whatever_else_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = interpreter_versions()
    assert before["numpy"] == np.__version__
    assert before["python"] == ".".join(map(str, sys.version_info[:3]))
    metadata = tmp_path / "vendored-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: vendored\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert interpreter_versions() == before
