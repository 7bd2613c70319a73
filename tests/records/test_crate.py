"""A finished study as an RO-Crate: readable by the library, a results folder all the same, refused if unfinished."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate

from mlcl import reporting
from mlcl.errors import MlclError
from mlcl.records.collect import collect
from mlcl.records.crate import write_crate
from mlcl.records.outline import OpenStudy, open_study, write_outline
from mlcl.records.paths import CellId
from mlcl.reporting import load_results
from tests.synthetic import Grid, edit_record

METADATA = "ro-crate-metadata.json"


@pytest.fixture
def study(grid: Grid) -> OpenStudy:
    """Finished, with tables; one of its losses has a paper on arXiv."""
    grid.plan().make_all()
    outline = grid.outline()
    losses = outline.losses | {"reg": replace(outline.losses["reg"], paper="A loss (arXiv:2412.00101)")}
    write_outline(replace(outline, losses=losses), grid.paths.outline)
    for seed, finished in enumerate(("2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z")):
        edit_record(
            grid.paths.cell(CellId("scenes", "cnn", "bce", "base", seed)), "run", "finished", value=finished
        )
    collect(grid.opened)
    reporting.write_tables("tiny")
    return grid.opened


def entities(folder: Path) -> dict[str, dict[str, Any]]:
    graph = json.loads((folder / METADATA).read_text())["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def test_what_the_crate_says(study: OpenStudy) -> None:
    write_crate(study, Path("crate"), "CC-BY-4.0")
    described = entities(Path("crate"))
    root = described["./"]
    assert root["name"] == "A tiny study"
    assert root["description"] == "Synthetic records."
    assert root["datePublished"] == "2026-03-02T10:00:00Z"
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert root["citation"] == {"@id": "https://arxiv.org/abs/2412.00101"} or root["citation"] == [
        {"@id": "https://arxiv.org/abs/2412.00101"}
    ]
    assert described["https://arxiv.org/abs/2412.00101"]["name"] == "A loss"
    dataset = described["#dataset-scenes"]
    assert dataset["description"] == "image, 6 labels; rows: train 400, val 150, test 300"
    assert described["#mlcl"]["softwareRequirements"] == ["python 3.11", "torch 2.15"]
    run = described["#run"]
    assert run["instrument"] == {"@id": "#mlcl"}
    assert {"@id": "metrics.csv"} in run["result"]


def test_every_file_is_described_and_there(study: OpenStudy) -> None:
    count = write_crate(study, Path("crate"))
    crate = ROCrate("crate")
    described = {entity.id for entity in crate.data_entities}
    there = {file.relative_to("crate").as_posix() for file in Path("crate").rglob("*") if file.is_file()}
    assert described == there - {METADATA}
    assert len(described) == count
    assert {
        "metrics.csv",
        "outline.json",
        "tables/main.md",
        "scenes/cnn/bce/base/seed0/scores.npz",
    } <= described
    size = Path("crate/metrics.csv").stat().st_size
    assert crate.get("metrics.csv")["contentSize"] == str(size)


def test_a_crate_is_a_results_folder(study: OpenStudy) -> None:
    write_crate(study, Path("crate"))
    assert load_results("crate").metrics.equals(load_results("tiny").metrics)
    assert open_study("crate").outline == study.outline


def test_an_unfinished_study_is_refused(study: OpenStudy) -> None:
    cell = CellId("docs", "transformer", "bce", "base", 2)
    study.paths.record(cell).unlink()
    with pytest.raises(
        MlclError, match=r"tiny: is not finished \(\d+ of \d+ cells have a current record, 1 missing"
    ):
        write_crate(study, Path("crate"))
    assert not Path("crate").exists()


def test_nothing_is_overwritten(study: OpenStudy) -> None:
    Path("crate").mkdir()
    with pytest.raises(MlclError, match="crate: exists already"):
        write_crate(study, Path("crate"))


def test_the_extra_is_named(study: OpenStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rocrate"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rocrate", None)
    with pytest.raises(MlclError, match=r"pip install 'mlcl\[share\]'"):
        write_crate(study, Path("crate"))
