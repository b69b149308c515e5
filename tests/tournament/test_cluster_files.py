"""The files of `cluster/`, which users copy: our loader and Dask's command lines take them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]
from distributed.cli import dask_scheduler, dask_worker

from advcomp.cli import main as advcomp
from advcomp.errors import InvalidConfig
from advcomp.tournament.cluster.cluster_file import (
    ClusterFile,
    ClusterKind,
    load_cluster_file,
    scheduler_at,
)

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "cluster" / "kubernetes"
CLUSTER_FILES = sorted((ROOT / "cluster").rglob("*.toml"))


def test_there_is_a_file_for_each_kind_that_needs_one() -> None:
    kinds = [load_cluster_file(str(path)).kind for path in CLUSTER_FILES]
    assert kinds == [ClusterKind.SCHEDULER, ClusterKind.SLURM, ClusterKind.SSH]


def test_every_line_that_is_commented_out_is_taken_too(tmp_path: Path) -> None:
    text = (ROOT / "cluster" / "slurm.toml").read_text()
    path = tmp_path / "slurm.toml"
    path.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    file = load_cluster_file(str(path))
    assert file.slurm.model_fields_set == set(type(file.slurm).model_fields)
    assert file.node.interface == "ib0"


def test_the_file_of_the_documentation_is_taken(tmp_path: Path) -> None:
    """It shows every key there is."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "cluster.toml"
    path.write_text(block)
    file = load_cluster_file(str(path))
    assert file.model_fields_set == set(ClusterFile.model_fields)
    for table in (file.node, file.nodes, file.slurm, file.ssh, file.tls):
        assert table is not None
        assert table.model_fields_set == set(type(table).model_fields)


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name."""
    files = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*files, "kustomization.yaml"} == {path.name for path in KUBERNETES.glob("*.yaml")}
    documents = (each for file in files for each in yaml.safe_load_all(_text(file)))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def _text(name: str) -> str:
    return (KUBERNETES / name).read_text()


def pods() -> Iterator[dict[str, Any]]:
    """What each Deployment or Job runs."""
    for (kind, _), manifest in manifests().items():
        if kind in ("Deployment", "Job"):
            yield manifest["spec"]["template"]


def container(part: str) -> dict[str, Any]:
    """The one of the pod whose label says this part."""
    (pod,) = (pod for pod in pods() if pod["metadata"]["labels"]["part"] == part)
    (only,) = pod["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def parsed(command: click.Command, arguments: list[str]) -> dict[str, Any]:
    """What a command line makes of its arguments; it refuses those that it does not know."""
    return command.make_context("command", [*arguments]).params


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Dask's command lines want files that exist."""
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").touch()
    return tmp_path


def arguments_of(part: str, certificates: Path) -> list[str]:
    told = container(part)["args"]
    return [argument.replace("/tls/", f"{certificates}/") for argument in told]


def test_the_scheduler_is_where_its_service_and_the_cluster_file_say(certificates: Path) -> None:
    found = parsed(dask_scheduler.main, arguments_of("scheduler", certificates))
    service = manifests()["Service", "advcomp-scheduler"]["spec"]
    scheduler = manifests()["Deployment", "advcomp-scheduler"]["spec"]
    assert service["selector"] == scheduler["selector"]["matchLabels"]
    (port,) = service["ports"]
    assert int(found["port"]) == port["port"] == port["targetPort"]
    address = f"tls://advcomp-scheduler:{port['port']}"
    assert load_cluster_file(str(KUBERNETES / "cluster.toml")).address == address
    assert arguments_of("worker", certificates)[0] == address
    assert found["protocol"] == "tls"
    assert not found["dashboard"]


def test_a_worker_declares_less_than_its_pod_has(certificates: Path) -> None:
    found = parsed(dask_worker.main, arguments_of("worker", certificates))
    limits = container("worker")["resources"]["limits"]
    declared = dict(one.split("=") for one in found["resources"].split(","))
    assert found["nthreads"] == int(declared["cpus"]) == int(limits["cpu"]) - 1
    pod_bytes = int(limits["memory"].removesuffix("Gi")) << 30
    assert 0 <= pod_bytes - (2 << 30) - float(declared["memory"]) < 1e9
    assert not found["nanny"], "a pod is restarted by Kubernetes"
    assert found["memory_limit"] == "0"
    environment = {each["name"]: each.get("value") for each in container("worker")["env"]}
    for name in ("TARGET", "SPILL"):
        assert environment[f"DASK_DISTRIBUTED__WORKER__MEMORY__{name}"] == "False"


def test_the_referee_runs_with_the_cluster_file() -> None:
    found = container("referee")
    assert found["command"][:2] == ["advcomp", "run"]
    run = advcomp.commands["run"]
    options = parsed(run, [*found["command"][2:], *found["args"]])
    mounts = {each["name"]: each["mountPath"] for each in found["volumeMounts"]}
    assert options["cluster"] == f"{mounts['cluster']}/cluster.toml"
    assert str(options["out"]).startswith(mounts["shared"])
    tls = load_cluster_file(str(KUBERNETES / "cluster.toml")).tls
    assert tls is not None
    assert tls.ca == f"{mounts['tls']}/ca.pem"


def test_every_volume_is_made_somewhere() -> None:
    claims = {name for kind, name in manifests() if kind == "PersistentVolumeClaim"}
    generated = yaml.safe_load(_text("kustomization.yaml"))["configMapGenerator"]
    maps = {each["name"] for each in generated}
    for pod in pods():
        volumes = pod["spec"]["volumes"]
        for each in pod["spec"]["containers"]:
            mounted = {mount["name"] for mount in each["volumeMounts"]}
            assert mounted == {volume["name"] for volume in volumes}
        for volume in volumes:
            claim, config = volume.get("persistentVolumeClaim"), volume.get("configMap")
            assert claim is None or claim["claimName"] in claims
            assert config is None or config["name"] in maps


def test_only_our_pods_reach_the_scheduler() -> None:
    policy = manifests()["NetworkPolicy", "advcomp"]["spec"]
    ours = policy["podSelector"]["matchLabels"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": ours}}]}]
    assert all(ours.items() <= pod["metadata"]["labels"].items() for pod in pods())


def test_an_empty_address_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"--scheduler: expected .* got an empty text"):
        scheduler_at("")


def test_a_node_in_which_no_program_starts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('kind = "local"\n[node]\nmemory = "1 B"\n')
    with pytest.raises(InvalidConfig) as told:
        load_cluster_file(str(file))
    assert str(told.value).startswith(f"{file}:3: [node] memory: expected a size such as ")
    assert str(told.value).endswith('at least 32 MiB: no program starts in less; got "1 B"')
