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


FURTHER = {("contents", backend) for backend in CONTAINERS} | {
    ("box", "podman"),
    ("late", "podman"),
}
"""Rounds and backends of the long set: what readers make of contents is proved once; Docker's box
has the same walls and ends as Podman's, which tests/sandbox tries in both."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what other rounds prove to the long set."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        rounds = getattr(getattr(item, "module", None), "ROUND_OF", {})
        kind = parameters.get("kind") or rounds.get(parameters.get("name"))
        if (kind, parameters.get("backend")) in FURTHER:
            item.add_marker(pytest.mark.long)
