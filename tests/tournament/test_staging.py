"""The folder of what boxes read: found again by its run, or never made."""

import tempfile
from pathlib import Path

import pytest

from advcomp.tournament.job.staging import staging_for


def test_nothing_is_staged_that_the_next_start_would_not_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run folder takes no note of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(FileNotFoundError), staging_for(tmp_path / "no-such-run"):
        pytest.fail("it was made")
    assert list(tmp_path.iterdir()) == []
