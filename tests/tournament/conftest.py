"""Fixtures of whole tournaments."""

from pathlib import Path

import pytest
from support.contest import IMAGES, Contest, write_greys


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever plays in a contest is slow."""
    for item in items:
        if "contest" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    """A contest with six images of distinct brightness; image k has label k."""
    write_greys(tmp_path / "data", IMAGES)
    return Contest(tmp_path)
