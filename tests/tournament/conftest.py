"""Fixtures of whole tournaments."""

from pathlib import Path

import pytest
from support.contest import BRIGHTNESS, COPY, DARKER, IMAGES, SMALL, Contest, write_greys


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


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tournament file, and its run on this machine."""
    folder = tmp_path_factory.mktemp("played")
    write_greys(folder / "data", IMAGES)
    contest = Contest(folder)
    attacks = [contest.entry("noop", COPY), contest.entry("darker", DARKER)]
    defenses = [contest.entry("brightness", BRIGHTNESS, "defense")]
    file = contest.file(attacks, defenses, more=SMALL)
    return file, contest.run(file).run


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    """A certificate for all roles, as files."""
    from distributed.security import Security  # loads for a second

    made = Security.temporary()
    files = {"ca": made.tls_ca_file, "cert": made.tls_worker_cert, "key": made.tls_worker_key}
    paths = {name: tmp_path / f"{name}.pem" for name in files}
    for name, content in files.items():
        paths[name].write_text(str(content))
        paths[name].chmod(0o600)
    return paths
