"""`import advcomp`, `python -m advcomp`, and what other packages add by entry points."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.added_package import Adds, adding
from support.command import advcomp as command

import advcomp
from advcomp import plugins
from advcomp.errors import InvalidConfig, SandboxUnavailable
from advcomp.sandbox.probe import backend_names, open_backend
from advcomp.tournament.config import load_tournament
from advcomp.tournament.job.executors import Stop, executor_named, run_local

TOURNAMENT = """
name = "t"
[dataset]
source = "digits"
[entries]
attacks = ["a"]
defenses = ["b"]
[sandbox]
backend = "{backend}"
"""


def python(program: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    words = [sys.executable, "-c", program]
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_public_name_can_be_taken_from_the_package() -> None:
    for name in advcomp.__all__:
        assert getattr(advcomp, name) is not None
    assert set(advcomp.__all__) <= set(dir(advcomp))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = advcomp.nothing


def test_the_names_for_people_and_for_type_checkers_are_the_same() -> None:
    homes = {name for names in advcomp._HOMES.values() for name in names}
    assert homes | {"__version__"} == set(advcomp.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = python("import advcomp, sys; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"numpy", "pandas", "click", "pydantic", "torch", "PIL", "rich"} == set()


def test_a_name_that_needs_an_extra_says_which(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    done = python("import advcomp; advcomp.ATTACKS", tmp_path)
    assert "advcomp.ATTACKS needs torch, which is not installed" in done.stderr
    assert "pip install 'advcomp[players]'" in done.stderr


def test_python_m_advcomp_is_the_command() -> None:
    words = [sys.executable, "-m", "advcomp", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"advcomp {advcomp.__version__}\n"


@pytest.fixture
def adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adds:
    return adding(tmp_path, monkeypatch)


def test_a_sandbox_of_another_package_is_opened_by_its_name(adds: Adds, tmp_path: Path) -> None:
    code = "from advcomp.sandbox.backends.unwalled import Unwalled\nseen = []\n"
    code += "def open_it(hidden):\n    seen.extend(hidden)\n    return Unwalled()\n"
    adds("[advcomp.sandboxes]\nvm = added1:open_it\nbubblewrap = added1:open_it\n", code)
    assert backend_names() == ("bubblewrap", "docker", "podman", "gvisor", "vm")
    opened = open_backend("vm", [tmp_path])
    opened.close()
    added = importlib.import_module("added1")
    assert added.seen == [tmp_path]
    file = tmp_path / "t.toml"
    file.write_text(TOURNAMENT.format(backend="vm"))
    assert load_tournament(file).sandbox.backend == "vm"
    with pytest.raises(SandboxUnavailable, match="podman, gvisor, vm; got qemu"):
        open_backend("qemu")


def test_a_sandbox_that_nobody_adds_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(TOURNAMENT.format(backend="vm"))
    with pytest.raises(InvalidConfig, match=r'backend: expected one of .*gvisor, auto; got "vm"'):
        load_tournament(file)


def test_an_executor_of_another_package_carries_the_jobs(adds: Adds) -> None:
    code = "def one_by_one(jobs, work, *, cost, workers, stop):\n    yield from map(work, jobs)\n"
    adds("[advcomp.executors]\nin_order = added1:one_by_one\n", code)
    executor = executor_named("in_order")
    done = executor([3, 1, 2], str, cost=float, workers=1, stop=Stop())
    assert [*done] == ["3", "1", "2"]
    assert executor_named("local") is run_local
    with pytest.raises(InvalidConfig, match="one of local, in_order; got slurm"):
        executor_named("slurm")


def test_two_packages_that_add_one_name_are_told(adds: Adds) -> None:
    adds("[advcomp.executors]\nfar = added1:run\n", "run = 1\n")
    adds("[advcomp.executors]\nfar = added2:run\n", "run = 2\n")
    with pytest.raises(InvalidConfig, match="got added1 and added2; uninstall all but one"):
        plugins.load(plugins.ExtensionGroup.EXECUTORS, "far")


def test_what_cannot_be_imported_names_its_package(adds: Adds) -> None:
    adds("[advcomp.attacks]\nworse = added1:missing\n", "")
    with pytest.raises(InvalidConfig, match="added1:missing of the package added1; got Attrib"):
        plugins.load(plugins.ExtensionGroup.ATTACKS, "worse")


def test_help_names_the_way_to_see_more() -> None:
    assert "-v, --verbose" in command("--help").output


def test_an_attack_and_a_defense_of_another_package_are_found_by_name(adds: Adds) -> None:
    code = "def twist(classifier, clean, labels, *, eps, targeted=False, turns: int = 3):\n"
    code += "    return clean\n"
    code += "def fog(model, images, *, depth: float = 0.5):\n    return model(images)\n"
    adds("[advcomp.attacks]\ntwist = added1:twist\n[advcomp.defenses]\nfog = added1:fog\n", code)
    from advcomp.players.attack_catalogue import attack_named, settings_of
    from advcomp.players.defense_catalogue import defense_named, parameters_of

    attack, defense = attack_named("twist"), defense_named("fog")
    assert attack is not None
    assert defense is not None
    assert list(settings_of(attack)) == ["turns"]
    assert parameters_of(defense) == {"depth": float}
    assert (attack_named("nothing"), defense_named("nothing")) == (None, None)
    assert attack_named("fgsm") is advcomp.ATTACKS["fgsm"]
