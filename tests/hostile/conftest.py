"""Every backend is held to what entries try, and to what may pass between them."""

from collections.abc import Callable

import pytest
from support.backends import BACKENDS, CONTAINERS, marked


@pytest.fixture(scope="session", params=marked(*BACKENDS))
def backend(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    """The name of a backend that works here."""
    name: str = request.param
    require(name)
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What readers make of contents is proved once; with other sandboxes it is of the long set."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        rounds = getattr(getattr(item, "module", None), "ROUND_OF", {})
        kind = parameters.get("kind") or rounds.get(parameters.get("name"))
        if kind == "contents" and parameters.get("backend") in CONTAINERS:
            item.add_marker(pytest.mark.long)
