"""Fixtures of tuning."""

from pathlib import Path

import pytest
from support.contest import IMAGES, Contest, write_greys


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    """A contest with six images of distinct brightness; image k has label k."""
    write_greys(tmp_path / "data", IMAGES)
    return Contest(tmp_path)
