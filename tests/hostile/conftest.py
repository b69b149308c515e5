"""Every test here once for each backend that is held to all of them; a new one is one more name.

Containers are held to the conformance suite (tests/sandbox) only, so far.
"""

from collections.abc import Callable

import pytest
from support.backends import mark_of

HELD = ("bubblewrap",)


@pytest.fixture(scope="session", params=[pytest.param(name, marks=mark_of(name)) for name in HELD])
def backend(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    """The name of a backend that works here."""
    name: str = request.param
    require(name)
    return name
