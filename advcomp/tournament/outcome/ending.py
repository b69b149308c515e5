"""How a program ended, in words."""

from advcomp.tournament.store.job_results import JobResult


def ending(result: JobResult) -> list[str]:
    """How a program ended that did not end well; empty where it did."""
    if result.signal is not None:
        return [f"killed by signal {result.signal}"]
    return [f"exit code {result.exit_code}"] if result.exit_code else []
