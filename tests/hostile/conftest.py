"""Every backend is held to what entries try, and to what may pass between them."""

from collections.abc import Callable

import pytest
from support.backends import BACKENDS, marked


@pytest.fixture(scope="session", params=marked(*BACKENDS))
def backend(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    """The name of a backend that works here."""
    name: str = request.param
    require(name)
    return name
