"""Every test here once for each backend; a new one is one more name."""

from collections.abc import Callable

import pytest
from support.backends import BACKENDS, mark_of


@pytest.fixture(
    scope="session", params=[pytest.param(name, marks=mark_of(name)) for name in BACKENDS]
)
def backend(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    """The name of a backend that works here."""
    name: str = request.param
    require(name)
    return name
