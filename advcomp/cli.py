"""The command `advcomp`; a command imports its job when it is called.

Exit codes: 0 done, 1 invalid, 2 usage, 3 finished with failures of the sandbox, 4 sandbox
unavailable, 130 interrupted.
"""

import errno
import sys
from pathlib import Path

import click

from advcomp import __version__
from advcomp.errors import AdvcompError

BACKENDS = ("auto", "bubblewrap", "docker", "podman", "gvisor")
FORMATS = ("table", "csv", "json", "md")
INTERRUPTED = 130

_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT),
}
"""What the file system may answer to a path that a user named; anything else is our bug."""

FILE = click.argument("file", type=click.Path(path_type=Path))
RUN = click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
OUT = click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Run folder [default: runs/NAME].",
)
SANDBOX = click.option(
    "--sandbox",
    metavar="NAME",
    type=click.Choice(BACKENDS),
    help=f"Instead of the file's: {', '.join(BACKENDS)}.",
)
JOBS = click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    help="Sandboxes at once [default: processors / limits.cpus].",
)


class _Commands(click.Group):
    """A group that shows a user's mistakes as messages, never as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except AdvcompError as error:
            _complain(*error.problems)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in _REFUSALS or error.filename is None:
                raise
            _complain(f"{error.filename}: {error.strerror}")
            ctx.exit(1)
        except KeyboardInterrupt:
            _complain("interrupted")
            ctx.exit(INTERRUPTED)


def _complain(*problems: str) -> None:
    for problem in problems:
        click.echo(f"advcomp: {problem}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="advcomp", message="%(prog)s %(version)s")
def main() -> None:
    """Run adversarial attack/defense competitions, safely, on your own machine."""


@main.command()
@FILE
@OUT
@SANDBOX
@JOBS
@click.option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Key of the opaque names [default: a new one, kept in the run folder].",
)
@click.option("--replan", is_flag=True, help="Classify all attacks together, in one new wave.")
def run(
    file: Path,
    out: Path | None,
    sandbox: str | None,
    jobs: int | None,
    key: Path | None,
    replan: bool,
) -> None:
    """Run the tournament FILE, or go on where it stopped.

    What is stored is not run again: a new entry costs only its own runs. Ctrl-C once finishes the
    jobs that run and stops; the same command goes on later.
    """
    from advcomp.terminal.running import run_in_terminal
    from advcomp.tournament.runner import RunOptions

    options = RunOptions(file=file, out=out, backend=sandbox, jobs=jobs, key=key, replan=replan)
    sys.exit(run_in_terminal(options))


@main.command()
@RUN
def score(run_folder: Path) -> None:
    """Rebuild the results of RUN from what is stored; runs nothing."""
    from advcomp.terminal.running import rescore_in_terminal

    sys.exit(rescore_in_terminal(run_folder))


@main.command()
@RUN
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
def leaderboard(run_folder: Path, form: str) -> None:
    """Print the leaderboard of RUN."""
    from advcomp.terminal.tables import print_leaderboard

    print_leaderboard(run_folder, form)


if __name__ == "__main__":
    main()
