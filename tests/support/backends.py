"""Every backend as a parameter of tests; a new one is one more name."""

import pytest

BACKENDS = ("bubblewrap", "docker", "podman", "gvisor")


def mark_of(backend: str) -> tuple[pytest.MarkDecorator, ...]:
    """The marker of tests on a backend; the default one has none."""
    return () if backend == "bubblewrap" else (getattr(pytest.mark, backend),)
