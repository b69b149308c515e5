"""Adversarial attack/defense competitions, run safely on your own machine.

What users need is here by name, and imported when it is first used: `import advcomp` costs
nothing, and the names of players (attacks, defenses, classifiers) need the extra `players`.

Examples:
    >>> import advcomp
    >>> sorted(advcomp.ATTACKS)[:3]
    ['admix', 'autopgd_ce', 'autopgd_dlr']
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advcomp.errors import (
        AdvcompError,
        InvalidConfig,
        InvalidDataset,
        InvalidImage,
        InvalidSubmission,
        MissingExtra,
        RunConflict,
        SandboxError,
        SandboxUnavailable,
    )
    from advcomp.notebook.run import Run, load_run, run
    from advcomp.players.attack_catalogue import ATTACKS
    from advcomp.players.classifiers import Classifier, load_classifier
    from advcomp.players.defense_catalogue import DEFENSES
    from advcomp.players.ensemble import Ensemble, Fusion, load_ensemble
    from advcomp.tournament.config import Tournament, load_tournament
    from advcomp.tournament.runner import RunOptions, run_tournament

__version__ = "0.1.0"

__all__ = [
    "ATTACKS",
    "DEFENSES",
    "AdvcompError",
    "Classifier",
    "Ensemble",
    "Fusion",
    "InvalidConfig",
    "InvalidDataset",
    "InvalidImage",
    "InvalidSubmission",
    "MissingExtra",
    "Run",
    "RunConflict",
    "RunOptions",
    "SandboxError",
    "SandboxUnavailable",
    "Tournament",
    "__version__",
    "load_classifier",
    "load_ensemble",
    "load_run",
    "load_tournament",
    "run",
    "run_tournament",
]

_HOMES = {
    "advcomp.errors": (
        *("AdvcompError", "InvalidConfig", "InvalidDataset", "InvalidImage", "InvalidSubmission"),
        *("MissingExtra", "RunConflict", "SandboxError", "SandboxUnavailable"),
    ),
    "advcomp.notebook.run": ("Run", "load_run", "run"),
    "advcomp.players.attack_catalogue": ("ATTACKS",),
    "advcomp.players.classifiers": ("Classifier", "load_classifier"),
    "advcomp.players.defense_catalogue": ("DEFENSES",),
    "advcomp.players.ensemble": ("Ensemble", "Fusion", "load_ensemble"),
    "advcomp.tournament.config": ("Tournament", "load_tournament"),
    "advcomp.tournament.runner": ("RunOptions", "run_tournament"),
}
"""The module that each public name is taken from."""


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        extra = "frames" if home.startswith("advcomp.notebook") else "players"
        if error.name is None or error.name.partition(".")[0] == "advcomp":
            raise
        from advcomp.errors import MissingExtra

        raise MissingExtra(
            f"advcomp.{name} needs {error.name}, which is not installed; type: "
            f"pip install 'advcomp[{extra}]'"
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
