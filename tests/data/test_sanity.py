"""The report that ends every preparation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import sanity
from tests.data.own import prepare

REPOSITORY = Path(__file__).parents[2]


def reviews(path: Path) -> None:
    rows = [(f"review {number % 25}", "abc"[number % 3] if number % 5 else "") for number in range(30)]
    path.write_text(
        "text,tags\n" + "".join(f"{text},{tag}\n" for text, tag in rows) + "\n\n", encoding="utf-8"
    )


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    reviews(tmp_path / "reviews.csv")
    dataset = prepare(tmp_path, "table", path="reviews.csv", text="text", label_list="tags")
    card = dataset.card
    assert card["found"]["files"] == [{"file": "reviews.csv", "rows": 30, "lines": 33, "blank_lines": 2}]
    assert card["found"]["labelled_rows"] == {"train": 17, "val": 2, "test": 5}
    assert card["found"]["duplicates"]["rows"] == 5
    told = sanity.report(dataset.folder)
    assert told[0] == "reviews.csv: 30 rows, 33 lines, 2 blank lines"
    assert told[1].startswith("3 labels with their counts: ")
    assert told[2] == "rows of each split (with labels): train 21 (17), val 3 (2), test 6 (5)"
    assert told[3].startswith("5 rows repeat the content of an earlier one")
    assert "warning: rows without labels in train: 4" in told


def test_duplicates_in_several_splits_are_counted(tmp_path: Path) -> None:
    for name in ("train", "test"):
        reviews(tmp_path / f"{name}.csv")
    settings = {"path": "train.csv", "test_path": "test.csv", "text": "text", "label_list": "tags"}
    found = prepare(tmp_path, "table", **settings).card["found"]["duplicates"]
    assert found == {"rows": 35, "across_splits": 25}


def test_the_report_escapes_what_would_steer_a_terminal(tmp_path: Path) -> None:
    reviews(tmp_path / "reviews.csv")
    dataset = prepare(tmp_path, "table", path="reviews.csv", text="text", label_list="tags")
    card = json.loads(json.dumps(dataset.card).replace("reviews.csv", "\\u001b[31m\\u202e.csv"))
    assert sanity.sentences(card)[0].startswith(r"\x1b[31m\u202e.csv: 30 rows")
    assert sanity.report(tmp_path) == []


@pytest.mark.parametrize("command", ["data_prep", "mlcl prepare", "mlcl plan"])
def test_the_commands_print_the_report(tmp_path: Path, command: str) -> None:
    reviews(tmp_path / "reviews.csv")
    entry = {"source": "table", "path": "reviews.csv", "text": "text", "label_list": "tags"}
    (tmp_path / "study.yaml").write_text(
        json.dumps(
            {
                "title": "t", "seeds": [0], "datasets": {"reviews": entry}, "encoders": {"text": {"transformer": {}}},
                "losses": ["bce"], "training": {"epochs": 1},
            }
        ),
        encoding="utf-8",
    )  # fmt: skip
    settings = json.dumps({key: value for key, value in entry.items() if key != "source"})
    commands = {
        "data_prep": [["data_prep", "table", "--data-root", ".", "--out", "out", "--settings", settings]],
        "mlcl prepare": [["mlcl", "prepare", "study.yaml", "--data-root", "."]],
        "mlcl plan": [[*("mlcl", name, "study.yaml", "--data-root", ".")] for name in ("prepare", "plan")],
    }
    for arguments in commands[command]:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert "reviews.csv: 30 rows, 33 lines, 2 blank lines" in done.stdout + done.stderr
