"""Whether the extra is installed that clusters need."""

from importlib.util import find_spec

from advcomp.errors import MissingExtra

NEEDED = "distributed"


def require_extra() -> None:
    """Have Dask's engine.

    Raises:
        MissingExtra: It is not installed.
    """
    if find_spec(NEEDED) is None:
        raise MissingExtra(
            f"a cluster needs {NEEDED}, which is not installed: pip install 'advcomp[cluster]'"
        )
