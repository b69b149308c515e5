"""Every backend as a parameter of tests; a new one is one more name.

ADVCOMP_TEST_BACKENDS names further ones, separated by commas, which other packages add.
"""

import os

import pytest

CONTAINERS = ("docker", "podman", "gvisor")
ADDED = tuple(filter(None, os.environ.get("ADVCOMP_TEST_BACKENDS", "").split(",")))
BACKENDS = ("bubblewrap", *CONTAINERS, *ADDED)


def mark_of(backend: str) -> tuple[pytest.MarkDecorator, ...]:
    """The markers of tests on a backend; the default one has none, and containers are slow."""
    return (getattr(pytest.mark, backend), pytest.mark.slow) if backend in CONTAINERS else ()


def marked(*backends: str) -> list[object]:
    """Backends, each with its markers, for `parametrize` or a fixture's `params`."""
    return [pytest.param(backend, marks=mark_of(backend)) for backend in backends]
