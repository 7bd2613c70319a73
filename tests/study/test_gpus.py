"""Cells that run at once on one machine get GPUs of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mlcl.study import gpus
from mlcl.training.settings import CellSettings


def cell(**compute: Any) -> CellSettings:
    """A cell with an encoder; how it is trained plays no part here."""
    return CellSettings.model_validate(
        {
            "seed": 0,
            "protocol": "end_to_end",
            "dataset": {"source": "x", "settings": {}, "subset": {}},
            "encoder": {"name": "mlp", "settings": {}},
            "compute": compute,
        }
    )


AUTO = cell()


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    gpus.visible.cache_clear()
    yield
    gpus.visible.cache_clear()


def seen() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_cell_gets_another_gpu_and_more_cells_than_gpus_share(tmp_path: Path) -> None:
    with gpus.reserve_gpus(AUTO, tmp_path):
        assert seen() == "3"
        gpus.visible.cache_clear()
        os.environ["CUDA_VISIBLE_DEVICES"] = "3,5"  # as another process would see it
        with gpus.reserve_gpus(AUTO, tmp_path):
            assert seen() == "5"
            with gpus.reserve_gpus(AUTO, tmp_path):
                assert seen() == "3"
    assert seen() == "3,5"


def test_a_freed_gpu_is_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with gpus.reserve_gpus(AUTO, tmp_path):
            assert seen() == "3"


def test_several_processes_ask_for_several(tmp_path: Path) -> None:
    chosen = cell(processes=2)
    assert gpus.gpus_needed(chosen) == 2
    with gpus.reserve_gpus(chosen, tmp_path):
        assert seen() == "3,5"


def test_no_gpu_is_a_cell_s_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    gpus.visible.cache_clear()
    host = tmp_path / socket.gethostname()
    host.mkdir()
    with (
        FileLock(host / "1.lock"),
        FileLock(host / "2.lock"),
        gpus.reserve_gpus(cell(processes=2), tmp_path),
    ):
        assert seen() == "3,5"


def test_more_processes_than_gpus_are_training_s_to_refuse(tmp_path: Path) -> None:
    with gpus.reserve_gpus(cell(processes=3), tmp_path):
        assert seen() == "3,5"


def test_a_cell_on_the_cpu_asks_for_none(tmp_path: Path) -> None:
    chosen = cell(device="cpu")
    assert gpus.gpus_needed(chosen) == 0
    with gpus.reserve_gpus(chosen, tmp_path):
        assert seen() == "3,5"
    assert not list(tmp_path.iterdir())


def test_a_machine_without_gpus_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpus.visible.cache_clear()
    assert gpus.gpus_needed(AUTO) == 0
    with gpus.reserve_gpus(AUTO, tmp_path):
        assert seen() == ""


def test_what_a_scheduler_gave_a_job_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    gpus.visible.cache_clear()
    with gpus.reserve_gpus(AUTO, tmp_path):
        assert seen() == "5"
    assert not list(tmp_path.iterdir())


def test_a_baseline_without_an_encoder_asks_for_none() -> None:
    assert gpus.gpus_needed(AUTO.model_copy(update={"encoder": None})) == 0
