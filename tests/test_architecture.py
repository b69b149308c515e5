"""The layers of the package, read from its imports; arrows point down only.

cli -> tournament -> scoring, sandbox -> rules -> errors           (the referee: never torch)
cli -> attacknet  -> players          -> rules -> errors           (torch)

`terminal`, what the commands show, belongs to `cli`; `live`, which looks at a run's folder while
the run goes on, lies between `terminal` and `tournament`. `tuning` stands on both columns: it lets
entries play and networks train. `plugins`, what other packages add, is as low as `errors`. The
front door, `advcomp/__init__.py`, names what lies anywhere and imports nothing.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "advcomp"

LEARNERS = {"training", "players", "attacknet"}
"""The only parts that may import `LEARNING`."""

BELOW: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {
        *("notebook", "terminal", "live", "tournament", "scoring", "sandbox"),
        *("attacknet", "players", "training", "rules", "plugins", "errors"),
        "tuning",
    },
    "notebook": {"terminal", "tournament", "scoring", "sandbox", "rules", "errors"},
    "terminal": {
        "live",
        "tuning",
        "attacknet",
        "players",
        "training",
        "tournament",
        "scoring",
        "sandbox",
        "rules",
        "errors",
    },
    "live": {"tournament", "scoring", "rules", "errors"},
    "tuning": {
        *("tournament", "scoring", "sandbox", "attacknet", "players", "training"),
        *("rules", "plugins", "errors"),
    },
    "tournament": {"scoring", "sandbox", "rules", "plugins", "errors"},
    "attacknet": {"players", "training", "rules", "errors"},
    "scoring": {"rules", "errors"},
    "sandbox": {"rules", "plugins", "errors"},
    "players": {"training", "rules", "plugins", "errors"},
    "training": {"rules", "errors"},
    "rules": {"errors"},
    "plugins": {"errors"},
    "errors": set(),
}
"""Which parts a part of advcomp may import besides itself, however far down."""

LEARNING = {
    *("torch", "torchvision", "timm", "sklearn", "skimage", "pywt", "safetensors"),
    *("onnx", "onnxscript", "onnxruntime", "tensorboard", "mpi4py"),
}

INPUTS = {"attacks", "defenses", "tournament", "docker", "cluster", "benchmarks", "tests"}
"""Folders beside the package; it is given paths into them."""

PROCESS_STARTERS = (
    *("subprocess", "pty", "asyncio.create_subprocess_", "asyncio.subprocess"),
    *("os.system", "os.popen", "os.exec", "os.spawn", "os.posix_spawn", "os.fork"),
    "posix.",
)
"""How the names begin that only the sandbox may use."""

COMPUTED = "a module that is only known at run time"


def uses(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Every module or function that the source of a module in `package` reaches, and its line.

    At any depth: an import in a function is an import. `o.system` after `import os as o` is
    `os.system`; a relative import is made absolute.
    """
    tree = ast.parse(source)
    bound = dict(
        (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    )
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = _absolute(node, package)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in bound:
                yield node.lineno, f"{bound[name]}.{attribute}"
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module")
            ):
                yield node.lineno, _constant(node) or COMPUTED


def _absolute(node: ast.ImportFrom, package: str) -> str:
    outer = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    return ".".join([*outer, *filter(None, [node.module])])


def _constant(call: ast.Call) -> str | None:
    match call.args:
        case [ast.Constant(value=str(name)), *_]:
            return name
    return None


def violations(source: str, module: str) -> list[str]:
    """What breaks the layering in the source of `module`, a path such as "rules/threat.py"."""
    path = PurePath(module)
    part, package = path.parts[0].removesuffix(".py"), ".".join(["advcomp", *path.parts[:-1]])
    return [
        f"advcomp/{module}:{line}: {part} must not reach {name}"
        for line, name in sorted(set(uses(source, package)))
        if _forbidden(name, part)
    ]


def _forbidden(name: str, part: str) -> bool:
    top, _, rest = name.partition(".")
    if top == "advcomp":
        target = rest.partition(".")[0]
        return target in BELOW and target not in BELOW[part] | {part}
    return (
        name == COMPUTED
        or top in INPUTS
        or (top in LEARNING and part not in LEARNERS)
        or (name.startswith(PROCESS_STARTERS) and part != "sandbox")
    )


def modules() -> list[str]:
    """Every module of the package, `__init__.py` of the package itself aside."""
    paths = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))
    return [str(path) for path in paths if path != PurePath("__init__.py")]


def test_every_part_of_the_package_has_its_place_in_the_layers() -> None:
    assert {PurePath(module).parts[0].removesuffix(".py") for module in modules()} <= set(BELOW)


@pytest.mark.parametrize("module", modules())
def test_a_module_reaches_only_what_lies_below_it(module: str) -> None:
    assert violations((PACKAGE / module).read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rules/threat.py", "import advcomp.scoring.scores"),
        ("rules/threat.py", "from advcomp import sandbox"),
        ("rules/threat.py", "from ..sandbox import base"),
        ("rules/threat.py", "from .. import sandbox"),
        ("errors.py", "from .rules import verdict"),
        ("errors.py", "import advcomp.rules"),
        ("scoring/scores.py", "from advcomp.sandbox.base import Verdict"),
        ("scoring/report/html.py", "from ...tournament import plan"),
        ("sandbox/base.py", "def run():\n    from advcomp.scoring import scores"),
        ("tournament/plan.py", "if TYPE_CHECKING:\n    from advcomp.players import attacks"),
        ("tournament/plan.py", "from advcomp.cli import main"),
        ("tournament/plan.py", "import advcomp.attacknet"),
        ("players/attacks.py", "import advcomp.sandbox"),
        ("players/attacks.py", "import advcomp.attacknet"),
        ("attacknet/train.py", "from advcomp.tournament import plan"),
        ("training/ranks.py", "from advcomp.players.datasets import digits"),
        ("training/schedule.py", "from advcomp.attacknet import step"),
        ("attacknet/train.py", "from advcomp.scoring import scores"),
        ("cli.py", "def train():\n    import torch"),
        ("tournament/plan.py", "class A:\n    def f(self):\n        from torch import nn"),
        ("scoring/scores.py", "import sklearn.metrics as m"),
        ("sandbox/base.py", "from torchvision.io import read_image"),
        ("rules/dataset.py", "import safetensors"),
        ("tournament/plan.py", "import subprocess"),
        ("players/attacks.py", "from subprocess import run"),
        ("cli.py", "import os\nos.system('true')"),
        ("cli.py", "import os as o\no.popen('true')"),
        ("cli.py", "from os import execv"),
        ("rules/dataset.py", "import os\nos.spawnl(0, 'x')"),
        ("rules/dataset.py", "import os\nstart = os.posix_spawn"),
        ("rules/dataset.py", "from posix import fork"),
        ("tournament/plan.py", "import pty"),
        ("tournament/plan.py", "import asyncio\nasyncio.create_subprocess_exec('x')"),
        ("players/attacks.py", "import attacks.fgsm"),
        ("tournament/plan.py", "from defenses import plain"),
        ("cli.py", "import tournament"),
        ("scoring/scores.py", "__import__('torch')"),
        ("scoring/scores.py", "import importlib\nimportlib.import_module('advcomp.sandbox')"),
        ("scoring/scores.py", "from importlib import import_module\nimport_module(name)"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    (found,) = violations(source, module)
    last_line = len(source.splitlines())
    assert found.startswith(f"advcomp/{module}:{last_line}: ")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cli.py", "def run():\n    from advcomp.tournament import plan"),
        ("cli.py", "from advcomp.attacknet import train"),
        ("cli.py", "from advcomp import __version__"),
        ("tournament/plan.py", "from advcomp.scoring import scores\nimport advcomp.sandbox"),
        ("tournament/plan.py", "from . import views\nfrom .views import View"),
        ("scoring/report/html.py", "from ..scores import Absence\nfrom ...rules import verdict"),
        ("attacknet/train.py", "import torch\nfrom advcomp.players import attacks"),
        ("sandbox/box.py", "import subprocess, os\nos.execv('x', [])"),
        ("rules/dataset.py", "import os\nos.open('x', os.O_RDONLY)"),
        ("rules/dataset.py", "class A:\n    def f(self):\n        self.system()"),
        ("rules/dataset.py", "def f(tournament):\n    return tournament.name"),
    ],
)
def test_what_is_allowed_is_no_violation(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_what_runs_in_boxes_loads_parts_of_scipy_only_when_it_uses_them() -> None:
    """Its statistics alone take a second, at every start of every defense of the library."""
    loaded = {
        f"{module}: {name}"
        for module in modules()
        if PurePath(module).parts[0] in LEARNERS
        for node in ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, name in uses(ast.unparse(node), "advcomp")
        if name.startswith("scipy.")
    }
    assert loaded == set()


def test_the_whole_referee_can_be_imported_without_torch() -> None:
    """What other packages import on the way counts here too."""
    names = (
        ".".join(["advcomp", *PurePath(module).with_suffix("").parts]).removesuffix(".__init__")
        for module in modules()
        if PurePath(module).parts[0] not in LEARNERS
    )
    program = "import sys, importlib\nfor name in sys.argv[2:]: importlib.import_module(name)\n"
    program += "print(*(set(sys.argv[1].split()) & set(sys.modules)))"
    command = [sys.executable, "-c", program, " ".join(LEARNING), *names]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
