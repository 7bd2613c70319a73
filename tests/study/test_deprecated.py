"""Renamed keys of a study: the old one gives the same cells, with a warning that names the new one."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import mlcl
from mlcl.errors import ConfigError
from mlcl.study.config import load_study
from mlcl.study.deprecated import RENAMED, Renamed, with_new_keys
from mlcl.study.plan import make_plan
from mlcl.study.schema import study_schema

STUDY = {
    "title": "A study",
    "seeds": [0],
    "datasets": {"scipy_docs": None},
    "encoders": {
        "text": {"transformer": {"tokenizer": {"kind": "bpe"}, "training": {"optimizer": "adam"}}},
    },
    "losses": {"bce": {"training": {"optimizer": "sgd"}}, "reg": None},
    "variants": {
        "words": {"encoder": {"tokenizer": {"kind": "word"}}},
        "sgd": {"training": {"optimizer": "sgd"}},
    },
    "training": {"optimizer": "adamw"},
}
OLD = json.loads(json.dumps(STUDY).replace("optimizer", "optimiser").replace("tokenizer", "tokeniser"))
KINDER = Renamed("colour", "color", since="7.0", until="9.0", places=("", "table"))


def written(folder: Path, content: object) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def test_old_keys_give_the_same_cells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = []
    for content in (STUDY, OLD):
        caplog.clear()
        cells.append([planned.fingerprint for planned in make_plan(written(tmp_path, content)).cells])
    assert cells[0] == cells[1]
    assert None not in cells[0]
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 6
    first = warned[0].getMessage()
    assert first.startswith(
        f"{tmp_path / 'mine.yaml'}: encoders.text.transformer.tokeniser: is called 'tokenizer'"
    )
    assert "until 0.3.0" in first


def test_new_keys_are_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_study(written(tmp_path, STUDY))
    assert not caplog.records


def test_old_and_new_key_together(tmp_path: Path) -> None:
    both = STUDY | {"training": {"optimizer": "sgd", "optimiser": "adam"}}
    with pytest.raises(ConfigError, match=r"mine.yaml: training.optimiser: is the old name of 'optimizer'"):
        load_study(written(tmp_path, both))


def test_a_key_is_renamed_where_it_stands_only(caplog: pytest.LogCaptureFixture) -> None:
    content = {"colour": 1, "table": {"colour": [2], "inner": {"colour": 3}}, "datasets": {"colour": None}}
    before = copy.deepcopy(content)
    found = with_new_keys(content, Path("s.yaml"), [KINDER])
    assert found == {
        "color": 1,
        "table": {"color": [2], "inner": {"colour": 3}},
        "datasets": {"colour": None},
    }
    assert content == before
    assert [record.getMessage() for record in caplog.records] == [
        f"s.yaml: {where}: is called 'color' since 7.0; the old name works until 9.0"
        for where in ("colour", "table.colour")
    ]


def test_search_and_tuned_take_old_keys_too() -> None:
    content = {
        "search": {"space": {"optimiser": ["sgd"]}, "losses": {"reg": {"optimiser": ["adam"]}}},
        "tuned": {"rows": {"d/e/reg": {"optimiser": "adam"}}},
        "training": {"finetuning": {"optimiser": "adam"}},
    }
    assert "optimiser" not in str(with_new_keys(content, Path("s.yaml")))


@pytest.mark.parametrize("entry", RENAMED, ids=lambda entry: entry.old)
def test_no_old_key_outlives_its_release(entry: Renamed) -> None:
    assert Version(entry.since) < Version(entry.until)
    assert Version(mlcl.__version__) < Version(entry.until), (
        f"'{entry.old}' ends with {entry.until}: take its entry out of mlcl/study/deprecated.py"
    )


@pytest.mark.parametrize("entry", RENAMED, ids=lambda entry: entry.old)
def test_the_schema_lists_new_keys_only(entry: Renamed) -> None:
    schema = json.dumps(study_schema())
    assert f'"{entry.old}"' not in schema
    assert f'"{entry.new}"' in schema
