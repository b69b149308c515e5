"""The command `advcomp`; a command imports its job when it is called.

Exit codes: 0 done, 1 invalid, 2 usage, 3 finished with failures of the sandbox, 4 sandbox
unavailable, 130 interrupted.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from advcomp import __version__, plugins
from advcomp.terminal.command_group import CommandGroup

BACKENDS = ("auto", "bubblewrap", "docker", "podman", "gvisor", "none")
STARTERS = ("attack", "targeted-attack", "defense")
TEMPLATES = ("numpy", "onnx")
FORMATS = ("table", "csv", "json", "md")
NETWORKS = ("pytorch", "onnx")
REPLAYS = (
    *("again", "renamed", "reordered", "subset", "mixed", "alone", "batches"),
    *("untouched", "nudged"),
)
TABLES = ("parquet", "csv", "arrow")
WATCH_PORT = 8017
MOST_JOBS = 65_536
MOST_PIXELS = 4096
"""Of a side of a drawn image."""


class _SandboxName(click.Choice[str]):
    """A sandbox of ours, or one that another package adds."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The name, if there is a sandbox of that name."""
        if value not in BACKENDS and value in plugins.names(plugins.ExtensionGroup.SANDBOXES):
            return str(value)
        return super().convert(str(value), param, ctx)


class _PathName(click.Path):
    """A path. An empty one would be the current folder, which nobody means by it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if anything was given."""
        if not value:
            self.fail(
                "expected a path; got an empty text; is it a variable of the shell that is not "
                "set?",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


PATH = _PathName(path_type=Path)
FILE = click.argument("file", type=PATH)
RUN = click.argument("run_folder", metavar="RUN", type=PATH)
OUT = click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Run folder [default: runs/NAME].",
)
SANDBOX = click.option(
    "--sandbox",
    metavar="NAME",
    type=_SandboxName(BACKENDS),
    help=f"Instead of the file's: {', '.join(BACKENDS)}.",
)
TRUST = click.option(
    "--i-trust-these-submissions",
    "trusting",
    is_flag=True,
    help="Needed by --sandbox none: they run with all your rights.",
)
JOBS = click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, MOST_JOBS),
    help="Sandboxes at once [default: processors / limits.cpus].",
)

FOLDER = click.argument("folder", metavar="DIR", type=PATH)
SEED = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Draws target classes.",
)
PART = click.option(
    "--part",
    type=click.Choice(("tournament", "training")),
    default="tournament",
    show_default=True,
    help="The two share no image.",
)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="advcomp", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", count=True, help="Say on standard error what is done; -vv: all.")
def main(verbose: int) -> None:
    """Run adversarial attack/defense competitions, safely, on your own machine."""
    if verbose:
        from advcomp.terminal.verbosity import log_to_stderr

        log_to_stderr(verbose)


@main.command()
@FILE
@OUT
@SANDBOX
@TRUST
@JOBS
@click.option(
    "--key",
    metavar="FILE",
    type=PATH,
    help="Key of the opaque names [default: a new one, kept in the run folder].",
)
@click.option(
    "--executor",
    metavar="NAME",
    default="local",
    show_default=True,
    help="What carries the jobs to where they run: this machine, or what another package adds.",
)
@click.option(
    "--cluster",
    metavar="FILE|local|mpi",
    help="Spread the run over the cluster that FILE describes, over worker processes of this "
    "machine, or over the ranks that mpiexec started.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Spread the run over the nodes of a Dask scheduler."
)
@click.option("--replan", is_flag=True, help="Classify all attacks together, in one new wave.")
@click.option("--json", is_flag=True, help="Print what happens as lines of JSON, and no table.")
def run(
    file: Path,
    out: Path | None,
    sandbox: str | None,
    trusting: bool,
    jobs: int | None,
    key: Path | None,
    executor: str,
    cluster: str | None,
    scheduler: str | None,
    replan: bool,
    json: bool,
) -> None:
    """Run the tournament FILE, or go on where it stopped.

    What is stored is not run again: a new entry costs only its own runs. Ctrl-C once finishes the
    jobs that run and stops; the same command goes on later.
    """
    from advcomp.terminal.run_command import run_in_terminal
    from advcomp.tournament.runner import RunOptions

    options = RunOptions(
        file=file,
        out=out,
        backend=sandbox,
        trusting=trusting,
        jobs=jobs,
        key=key,
        executor=executor,
        cluster=cluster,
        scheduler=scheduler,
        replan=replan,
    )
    sys.exit(run_in_terminal(options, json=json))


@main.command()
@RUN
def score(run_folder: Path) -> None:
    """Rebuild the results of RUN from what is stored; runs nothing."""
    from advcomp.terminal.run_command import rescore_in_terminal

    sys.exit(rescore_in_terminal(run_folder))


@main.command()
@RUN
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
def leaderboard(run_folder: Path, form: str) -> None:
    """Print the leaderboard of RUN."""
    from advcomp.terminal.console_tables import print_leaderboard

    print_leaderboard(run_folder, form)


def _share(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not 0 < value <= 1:
        raise click.BadParameter(f"expected a share above 0, at most 1; got {value:g}")
    return value


@main.command()
@RUN
@click.option(
    "--share",
    type=float,
    default=0.03,
    show_default=True,
    callback=_share,
    help="Of each defense's shards and each attack's jobs; one at least.",
)
@click.option(
    "--check",
    "checks",
    metavar="NAME",
    multiple=True,
    type=click.Choice(REPLAYS),
    help=f"Replay under this condition only [default: all]: {', '.join(REPLAYS)}.",
)
@click.option(
    "--submission",
    "names",
    metavar="NAME",
    multiple=True,
    help="Replay this one only [default: all].",
)
@TRUST
@JOBS
@click.option("--json", is_flag=True, help="Print what RUN/audit.json says instead of a table.")
def audit(
    run_folder: Path,
    share: float,
    checks: tuple[str, ...],
    names: tuple[str, ...],
    trusting: bool,
    jobs: int | None,
    json: bool,
) -> None:
    """Replay a share of RUN under other conditions, and say where answers differ.

    Renamed, mixed, alone, with a page cache that nobody used, with pixels moved by one level; and
    what the answers of RUN tell by themselves. Writes RUN/audit.json and changes no score, unless
    the tournament file asks for that with [audit] refuse.
    """
    from advcomp.scoring.audit.finding import AuditCheck
    from advcomp.terminal.auditing import audit_in_terminal
    from advcomp.tournament.audit.audit_run import AuditOptions

    options = AuditOptions(
        run=run_folder,
        share=share,
        checks=tuple(map(AuditCheck, checks)),
        submissions=names,
        jobs=jobs,
        trusting=trusting,
    )
    sys.exit(audit_in_terminal(options, json=json))


@main.command()
@FILE
@OUT
@JOBS
@click.option(
    "--cluster", metavar="FILE|local", help="On the nodes that FILE names, once all are there."
)
def plan(file: Path, out: Path | None, jobs: int | None, cluster: str | None) -> None:
    """Say what a run of FILE will take: jobs, starts, time and disk.

    No submission is run. What an attack that runs again writes is taken to be new to every
    defense; where it comes out the same, no defense runs again, and the run takes less.
    """
    from advcomp.terminal.forecasting import print_forecast

    print_forecast(file, out, jobs, cluster)


@main.command()
@RUN
@click.option("--watch", is_flag=True, help="Go on saying so until RUN has finished, or Ctrl-C.")
def status(run_folder: Path, watch: bool) -> None:
    """Say how far RUN is, and how its entries do."""
    if watch:
        from advcomp.terminal.watching import watch_in_terminal

        watch_in_terminal(run_folder)
        return
    from advcomp.terminal.inspecting import print_status

    print_status(run_folder)


@main.command()
@RUN
@click.option("--serve", is_flag=True, help="As a page that follows RUN, on this machine alone.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    help=f"Of the page; 0: any that is free [default: {WATCH_PORT}].",
)
@click.option(
    "--bind", metavar="ADDRESS", help="Let other machines see the page, too; needs a token."
)
@click.option(
    "--token",
    metavar="TEXT",
    envvar="ADVCOMP_TOKEN",
    help="What whoever opens the page must know [default: $ADVCOMP_TOKEN].",
)
@click.option("--json", is_flag=True, help="As lines of JSON, one an event.")
@click.option(
    "--out",
    metavar="FILE",
    type=PATH,
    help="The page as it is now, as one HTML file.",
)
def watch(
    run_folder: Path,
    serve: bool,
    port: int | None,
    bind: str | None,
    token: str | None,
    json: bool,
    out: Path | None,
) -> None:
    """Follow RUN while it goes on: in the terminal, as a page, as events for machines.

    Whatever works on RUN, ends, is killed or goes on, this only reads its folder.
    """
    from advcomp.terminal import watching

    if serve + json + (out is not None) > 1:
        raise click.UsageError("--serve, --json, --out: expected one of them at most")
    told = click.get_current_context().get_parameter_source
    lost = [n for n in ("port", "bind", "token") if told(n) is ParameterSource.COMMANDLINE]
    if lost and not serve:
        raise click.UsageError(f"--{lost[0]}: expected with --serve; got no --serve")
    if serve:
        port = WATCH_PORT if port is None else port
        watching.serve_in_terminal(run_folder, port, bind, token)
    elif json:
        from advcomp.terminal.run_events import print_events

        print_events(run_folder)
    elif out is not None:
        watching.write_page(run_folder, out)
    else:
        watching.watch_in_terminal(run_folder)


@main.command()
@RUN
@click.argument("name", metavar="[NAME|JOB]", required=False)
@click.option("--for-competitor", is_flag=True, help="Only what [logs] lets competitors see.")
def logs(run_folder: Path, name: str | None, for_competitor: bool) -> None:
    """Print what a submission's jobs, or one JOB, wrote; without a name, list the jobs of RUN."""
    from advcomp.terminal.inspecting import print_jobs, print_logs

    if name is None:
        print_jobs(run_folder)
    else:
        print_logs(run_folder, name, competitor=for_competitor)


@main.command()
@RUN
@click.option("--drop", is_flag=True, help="Take damaged results out: their jobs run again.")
def verify(run_folder: Path, drop: bool) -> None:
    """Compare every file of RUN with its checksum; runs look at large ones as they read them."""
    from advcomp.terminal.inspecting import print_verified

    sys.exit(print_verified(run_folder, drop=drop))


@main.command()
@RUN
@click.option("--submission", "names", metavar="NAME", multiple=True, required=True)
@TRUST
@JOBS
def rerun(run_folder: Path, names: tuple[str, ...], trusting: bool, jobs: int | None) -> None:
    """Take a submission's results out of RUN, and run it again."""
    from advcomp.terminal.run_command import rerun_in_terminal

    sys.exit(rerun_in_terminal(run_folder, names, jobs, trusting=trusting))


@main.command()
@RUN
@click.option("--for", "name", metavar="NAME", help="What the competitor NAME may see.")
@click.option(
    "--for-all",
    "folder",
    metavar="DIR",
    type=PATH,
    help="What each competitor may see, as DIR/NAME.html.",
)
@click.option("--public", is_flag=True, help="What may be published: no image, no true label.")
@click.option(
    "--out",
    metavar="FILE",
    type=PATH,
    help="Where to [default: report.html or public.html in RUN/results, or "
    "RUN/reports/NAME.html].",
)
def report(
    run_folder: Path, name: str | None, folder: Path | None, public: bool, out: Path | None
) -> None:
    """Write a report of RUN as one HTML file: the organiser's, a competitor's, or the public's."""
    from advcomp.terminal.reporting import report_in_terminal, reports_in_terminal

    if (name is not None) + (folder is not None) + public > 1:
        raise click.UsageError("--for, --for-all, --public: expected one of them at most")
    if folder is None:
        report_in_terminal(run_folder, name, out, public=public)
    elif out is not None:
        raise click.UsageError("--for-all: its files go to DIR; take --out out")
    else:
        reports_in_terminal(run_folder, folder)


@main.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=PATH)
@click.option("--json", is_flag=True, help="As JSON.")
@click.option(
    "--page",
    metavar="FILE",
    type=PATH,
    help="As an HTML file, written there.",
)
def compare(runs: tuple[Path, ...], json: bool, page: Path | None) -> None:
    """Say which settings, entries and scores of finished RUNs differ from the first one's.

    Differences of scores are over the images that both have, with 95 % intervals over images.
    """
    from advcomp.terminal.comparing import compare_in_terminal

    compare_in_terminal(runs, page, json=json)


def _height_and_width(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    height, cross, width = value.partition("x")
    sides = [int(side) for side in (height, width) if side.isdecimal() and len(side) < 10]
    if not cross or len(sides) < 2 or not all(1 <= side <= MOST_PIXELS for side in sides):
        raise click.BadParameter(
            f'expected height and width such as "32x32", each 1 to {MOST_PIXELS}; got "{value}"'
        )
    return sides[0], sides[1]


@main.command()
@click.argument("target", metavar="PATH|FILE[:NAME]", type=_PathName(path_type=str))
@SANDBOX
@TRUST
@click.option(
    "--images",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Drawn images in each trial run.",
)
@click.option(
    "--size",
    metavar="HxW",
    callback=_height_and_width,
    help="Of the drawn images, for a PATH [default: 299x299].",
)
def validate(
    target: str,
    sandbox: str | None,
    trusting: bool,
    images: int,
    size: tuple[int, int] | None,
) -> None:
    """Check a submission and try it, in the sandbox and the limits of a tournament.

    PATH is a folder, .zip, .tar or .tar.gz; FILE a tournament file (.toml), whose entries are all
    validated, or the one called NAME. The trial uses drawn images, never the tournament's own.
    """
    from advcomp.terminal.validating import validate_in_terminal

    sys.exit(validate_in_terminal(target, sandbox, images, size=size, trusting=trusting))


@main.command()
@click.argument("entry", metavar="PATH", type=PATH)
@click.option(
    "--against",
    metavar="FILE",
    type=PATH,
    help="A tournament file whose entries, images, budgets and limits are taken "
    "[default: samples on digits].",
)
@click.option(
    "--opponent",
    "opponents",
    metavar="NAME",
    multiple=True,
    help="One that it meets, may be given again [default: all of FILE's, or a few samples].",
)
@click.option(
    "--images",
    metavar="N",
    type=click.IntRange(min=1),
    help="Images to play on [default: 100, or as many as there are].",
)
@click.option(
    "--max-epsilon",
    "max_epsilons",
    metavar="N",
    type=click.IntRange(0, 255),
    multiple=True,
    help="A budget in pixel levels, may be given again [default: FILE's].",
)
@click.option("--name", help="What it is called [default: the base name of PATH].")
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Run folder [default: runs/practice-NAME].",
)
@SANDBOX
@TRUST
@JOBS
def practice(entry: Path, sandbox: str | None, **options: Any) -> None:
    """Play the submission PATH at home against a few others, with the referee of a tournament.

    Says its score and its rank among samples of its kind, how many of its images or labels are
    valid, what an image takes, and what is wrong. The run is kept: once more, and only what has
    changed runs.
    """
    from advcomp.terminal.practising import practise_in_terminal
    from advcomp.tournament.competitor.practice import PracticeOptions

    chosen = PracticeOptions(entry=entry, backend=sandbox, **options)
    command = shlex.join(["advcomp", *sys.argv[1:]])
    sys.exit(practise_in_terminal(chosen, command))


@main.command()
@FILE
@SANDBOX
def pull(file: Path, sandbox: str | None) -> None:
    """Fetch the container images of the tournament FILE; no run does that.

    Fetched is what [sandbox] images and image_map name and the engine does not have.
    """
    from advcomp.terminal.pulling import pull_in_terminal

    pull_in_terminal(file, sandbox)


@main.command()
@click.option(
    "--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True
)
@click.option("--packages", is_flag=True, help="List what python3 has in boxes without images.")
@click.option(
    "--cluster", metavar="FILE|local", help="Say how the nodes of a cluster differ from here."
)
@click.option(
    "--sandbox",
    metavar="NAME",
    type=_SandboxName(BACKENDS),
    help="With --cluster: the sandbox of the tournament [default: bubblewrap].",
)
def doctor(form: str, packages: bool, cluster: str | None, sandbox: str | None) -> None:
    """Say which sandboxes and limits work on this machine, and how to get those that do not.

    Versions with known ways out are named by their CVE numbers.
    """
    if cluster is not None:
        from advcomp.terminal.cluster_doctor import examine_cluster

        sys.exit(examine_cluster(cluster, sandbox or "auto", form))
    if sandbox is not None:
        raise click.UsageError("--sandbox says which one nodes are asked for: give --cluster, too")
    from advcomp.terminal.doctor import examine, print_packages

    if packages:
        print_packages(form)
        return
    sys.exit(examine(form))


@main.command()
@click.argument("folders", metavar="[RUN]...", nargs=-1, type=PATH)
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would be removed.")
def gc(folders: tuple[Path, ...], dry: bool) -> None:
    """Remove what killed runs left on this machine, and say what that freed.

    Containers, volumes, control groups and temporary folders of dead advcomp processes; container
    images that entries delivered and nobody uses; and in RUN (by default every run in `runs`) old
    copies of entries. What is not advcomp's, or in use, is left alone.
    """
    from advcomp.terminal.collecting import collect_garbage

    sys.exit(collect_garbage(folders, dry=dry))


@main.command()
@click.argument("kind", metavar="attack|targeted-attack|defense", type=click.Choice(STARTERS))
@FOLDER
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="numpy",
    show_default=True,
    help="A program of your own, or (defense only) an ONNX model run by onnxruntime.",
)
def init(kind: str, folder: Path, template: str) -> None:
    """Write a starter to DIR: a small submission that is valid as it stands."""
    from advcomp.terminal.submitting import init_in_terminal

    init_in_terminal(kind, folder, template)


@main.command()
@click.argument("path", type=PATH)
@FILE
@click.option("--name", help="What it is called [default: the base name of PATH].")
@click.option("--team", help="Who submits it: entries of one team do not play each other.")
def submit(path: Path, file: Path, name: str | None, team: str | None) -> None:
    """Submit the folder or archive PATH to the tournament FILE.

    It is validated first, then kept in the folder `entries` beside FILE, where `run` finds it;
    the latest of a name counts.
    """
    from advcomp.terminal.submitting import submit_in_terminal

    sys.exit(submit_in_terminal(path, file, name, team))


@main.command()
@FILE
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Folder of checkpoints and losses [default: runs/NAME of an attack network, else"
    " checkpoints/ beside FILE].",
)
@click.option("--source", metavar="PATH", type=PATH, help="Where the dataset is.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:1 [default: auto].")
@click.option(
    "--model-ranks",
    metavar="N",
    type=click.IntRange(min=1),
    help="Ranks that split an attack network's target classifiers [default: the recipe's].",
)
@click.option(
    "--init",
    metavar="WEIGHTS",
    type=PATH,
    help="First weights of an attack network: a checkpoint's, or an export's network.safetensors.",
)
@click.option("--evaluate", is_flag=True, help="Train nothing; try the weights that are there.")
def train(file: Path, names: tuple[str, ...], **options: Any) -> None:
    """Train what the recipe FILE says, or go on where training stopped.

    An attack network, or the classifiers or denoisers that it names: all, or only the NAMEs;
    their weights are written to weights/ beside FILE. Alone, or on all ranks that mpiexec,
    torchrun or srun started:

        mpiexec -n 4 advcomp train FILE

    As root, also in a container, mpiexec wants --allow-run-as-root.
    """
    from advcomp.terminal.training import TrainOptions, train_in_terminal

    sys.exit(train_in_terminal(file, TrainOptions(names=names, **options)))


@main.command()
@FILE
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Folder of the study [default: studies/NAME].",
)
@SANDBOX
@TRUST
@JOBS
@click.option(
    "--final",
    is_flag=True,
    help="Try nothing more: let the best settings meet the entries that are held out, once.",
)
@click.option(
    "--lost", metavar="HOST", help="Try again what ran on a machine that is gone for good."
)
def tune(file: Path, **options: Any) -> None:
    """Search the settings of an entry, or of a training, that are worth most: FILE says which.

    A trial is the entry with other settings in its tournament, or a training with another recipe.
    Any number of these commands, on machines that share DIR, work on one study; after Ctrl-C or a
    crash the same command goes on.
    """
    from advcomp.terminal.tuning import TuneOptions, tune_in_terminal

    sys.exit(tune_in_terminal(file, TuneOptions(**options)))


@main.command()
@click.argument("path", metavar="RUN|CHECKPOINT", type=PATH)
@click.argument("folder", metavar="[DIR]", required=False, type=PATH)
@click.option(
    "--format",
    "form",
    type=click.Choice((*TABLES, *NETWORKS)),
    help="parquet, csv or arrow of a RUN [default: parquet]; pytorch or onnx of a CHECKPOINT"
    " [default: pytorch].",
)
def export(path: Path, folder: Path | None, form: str | None) -> None:
    """Write the tables of a RUN, or the attack network of a CHECKPOINT, for use elsewhere.

    Of a RUN (a folder of `advcomp run`, finished or not): leaderboard, budgets, cells, jobs and
    all answers, to DIR [default: RUN/export], for pandas, DuckDB and others.

    Of a CHECKPOINT (a file of `advcomp train`): a submission in DIR that is ready to play. As
    pytorch it takes images of any size; as onnx, of the size that it was trained on.
    """
    if form in TABLES or (form is None and path.is_dir()):
        from advcomp.terminal.extras import extra_at_hand

        with extra_at_hand("frames"):
            from advcomp.notebook.table_files import export_run_in_terminal
        export_run_in_terminal(path, folder, form or TABLES[0])
        return
    from advcomp.terminal.training import export_in_terminal

    if path.is_dir():
        raise click.UsageError(
            f"--format {form}: expected a checkpoint's file; {path} is a folder, and the tables "
            f"of a run are written as {', '.join(TABLES)}"
        )
    if folder is None:
        raise click.UsageError(f"{path}: a checkpoint is exported to a DIR; name one")
    export_in_terminal(path, folder, form or NETWORKS[0])


@main.group()
def dataset() -> None:
    """Write a public dataset in the form that tournaments read."""


@dataset.command()
@FOLDER
@SEED
@PART
def digits(folder: Path, seed: int, part: str) -> None:
    """Write scikit-learn's handwritten digits to DIR, 32x32; the tournament's are the last 600."""
    _write_dataset("digits", folder, "--seed", str(seed), "--part", part)


@dataset.command()
@FOLDER
@click.option(
    "--source",
    metavar="ROOT|FILE.npz",
    help="torchvision's root folder of CIFAR-10, or an .npz of JPEGs [default: one in the cache].",
)
@click.option("--download", is_flag=True, help="Fetch what the root folder lacks.")
@SEED
@PART
def cifar10(folder: Path, source: str | None, download: bool, seed: int, part: str) -> None:
    """Write CIFAR-10 to DIR; the tournament's images are its test images."""
    options = ["--seed", str(seed), "--part", part]
    if source is not None:
        options += ["--source", source]
    if download:
        options.append("--download")
    _write_dataset("cifar10", folder, *options)


def _write_dataset(source: str, folder: Path, *options: str) -> None:
    from advcomp.tournament.source import write_source

    click.echo(write_source(source, folder, *options), nl=False)


if __name__ == "__main__":
    main()
