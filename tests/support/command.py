"""The command line, called in this process."""

from pathlib import Path

from click.testing import CliRunner, Result

from advcomp.cli import main


def advcomp(*arguments: str | Path) -> Result:
    """Run a command; a traceback fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
