"""Facts about the machine that runs a tournament."""

import os
import platform


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def machine_facts() -> dict[str, str | int]:
    """What results say about the machine; no two runs need to agree on it."""
    return {
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
