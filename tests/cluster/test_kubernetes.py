"""The jobs that profiles/kubernetes makes of cells: what they ask for, and that their command makes the record."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kubernetes import FakeKubernetes
from tests.workflow.sandbox import Sandbox

PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_kubernetes")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(PLUGIN is None, reason="the extra kubernetes is not installed; .ci/run installs it"),
]
CELLS = {"bce": "digit_scenes/cnn/bce/base/seed0", "label_prior": "digit_scenes/none/label_prior/base/seed0"}


class KubernetesBox(Sandbox):
    """A sandbox whose Snakemake makes jobs of a Kubernetes."""

    timeout = 900.0
    access: Path

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        assert PLUGIN is not None
        assert PLUGIN.origin is not None
        search = os.pathsep.join([str(self.folder), str(Path(PLUGIN.origin).parents[1])])
        return environment | {"PYTHONPATH": search, "KUBECONFIG": str(self.access)}

    def command(self, *arguments: str) -> list[str]:
        volume = ("--kubernetes-persistent-volumes", f"data:{self.folder}")
        quick = ("--latency-wait", "10", "--seconds-between-status-checks", "1")
        image = ("--container-image", "python:3.11")
        return super().command("--profile", "profiles/kubernetes", *image, *volume, *quick, *arguments)


@pytest.fixture
def box(tmp_path: Path) -> KubernetesBox:
    box = KubernetesBox.new(tmp_path / "box")
    box.access = tmp_path / "kubeconfig"
    return box


@pytest.fixture
def kubernetes(tmp_path: Path, box: KubernetesBox) -> Iterator[FakeKubernetes]:
    (tmp_path / "pods").mkdir()
    with FakeKubernetes(tmp_path / "pods", box.environment) as kubernetes:
        kubernetes.write_access(box.access)
        yield kubernetes


def container_of(kubernetes: FakeKubernetes, cell: str) -> dict[str, Any]:
    """The container of the one job of a cell."""
    containers = [job["spec"]["template"]["spec"]["containers"][0] for job in kubernetes.jobs.values()]
    (found,) = [container for container in containers if cell in wildcards(container["args"][1])]
    return found


def wildcards(command: str) -> str:
    """The cell that a job's command asks Snakemake for: it writes its targets in base64, in pieces."""
    import base64
    import re

    encoded = re.findall(r"base64//([A-Za-z0-9+/=]+)", command)
    text = " ".join(base64.b64decode(piece).decode(errors="replace") for piece in encoded)
    return f"{command} {text}"


def test_jobs_ask_for_what_their_cells_need_and_make_their_records(
    box: KubernetesBox, kubernetes: FakeKubernetes
) -> None:
    box.change_study(
        losses=["bce"],
        baselines=["label_prior"],
        training={"epochs": 1, "batch_size": 32},
        compute={"threads": 2},
    )
    box.mlcl("prepare", "config/default.yaml")
    run = box.snakemake("--until", "train", "--config", "gpu_request=gpus", check=False)
    assert run.returncode == 0, "\n".join([run.stdout, *kubernetes.outputs.values()])
    assert len(kubernetes.jobs) == 2
    assert len(box.records()) == 2
    # Of the GPUs, label_prior asks for none; its plan knows of no checkpoint, which would be added to the memory.
    for name, memory, gpus in (("bce", "4100M", "1"), ("label_prior", "4000M", "0")):
        record = json.loads((box.folder / "results/default" / CELLS[name] / "metrics.json").read_text())
        assert record["result"]["status"] == "ok"
        container = container_of(kubernetes, name)
        assert container["image"] == "python:3.11"
        other = {"memory": memory, "ephemeral-storage": "4000M", "nvidia.com/gpu": gpus}
        assert container["resources"]["requests"] == {"cpu": "1900m", **other}
        assert container["resources"]["limits"] == {"cpu": "2000m", **other}
        assert {"name": "data", "mountPath": str(box.folder)} in container["volumeMounts"]
