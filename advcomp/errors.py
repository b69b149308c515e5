"""Every exception that advcomp raises on purpose.

AdvcompError
├── InvalidSubmission     a submission breaks the contract           exit code 1
├── InvalidDataset        images.csv or an image is wrong            exit code 1
├── InvalidImage          one PNG is not what the contract asks for  exit code 1
├── InvalidConfig         a tournament file or an option is wrong    exit code 1
├── RunConflict           a run folder is in use or of another run   exit code 1
├── MissingExtra          an optional part is not installed          exit code 1
├── ClusterError          a cluster cannot be had, or was lost       exit code 3
└── SandboxError          our own failure while running a job        exit code 3
    ├── SandboxTimeout        it did not answer, or end, in time     exit code 3
    └── SandboxUnavailable    a backend cannot work here             exit code 4
"""

INTERRUPTED = 130
"""Exit code of what Ctrl-C ended."""


class AdvcompError(Exception):
    """Base of all errors; carries every problem that was found, not only the first.

    Args:
        problems: One sentence each: the object, what was expected, what was found, what to do.
    """

    exit_code = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InvalidSubmission(AdvcompError):
    """A submission breaks the contract; in a tournament it is REJECTED."""


class InvalidDataset(AdvcompError):
    """A dataset breaks the contract."""


class InvalidImage(AdvcompError):
    """An image file is not an 8-bit RGB PNG of the expected size."""


class InvalidConfig(AdvcompError):
    """A tournament file, or a value given on the command line, cannot be used."""


class RunConflict(AdvcompError):
    """A run folder is used by another process, or belongs to another tournament."""


class MissingExtra(AdvcompError):
    """A job needs an optional part of advcomp that is not installed."""


class ClusterError(AdvcompError):
    """A cluster cannot be had, or was lost; the run loses nothing that was finished."""

    exit_code = 3


class SandboxError(AdvcompError):
    """The sandbox failed, not the submission: verdict INFRA."""

    exit_code = 3


class SandboxTimeout(SandboxError):
    """The sandbox, or the engine behind it, did not answer in time."""


class SandboxUnavailable(SandboxError):
    """A sandbox backend cannot work on this machine; says why and the remedy."""

    exit_code = 4
