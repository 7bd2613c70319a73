"""What cannot be scored, exported or loaded is told in one line that names file and row."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from data_prep import DataError
from mlcl.errors import MlclError
from mlcl.model import ModelError, load_model
from mlcl.model.predict import TableForm, open_rows
from tests.model.conftest import Workshop, seal_anew
from tests.model.test_prediction import NOTES, PHOTOS, POINTS, raw_test_file

CELLS = {"text": NOTES, "image": PHOTOS, "vector": POINTS}
VECTORS = "a,b,c,d,e\n"


@pytest.mark.parametrize(
    ("modality", "name", "content", "told"),
    [
        ("text", "t.txt", b"fine\n\xff\xfe\n", r"t\.txt:2: .*UTF-8"),
        ("text", "t.txt", b"", r"no rows"),
        ("text", "t.csv", b"txt\na\n", r"t\.csv:2: there is no column 'text'.*'?txt"),
        ("text", "t.csv", b"id,text\n1,a\n2\n", r"t\.csv:3: 1 cells, the header has 2"),
        ("text", "t.jsonl", b'{"text": "a"}\n{"text": ["b"]}\n', r"t\.jsonl:2: column 'text' holds no text"),
        ("text", "t.jsonl", b'{"text": "a"}\n{"text"\n', r"t\.jsonl:2: not valid JSON"),
        ("text", "t.npy", b"", r"t\.npy: the model takes texts: \.txt"),
        ("vector", "v.csv", b"a,b\n1,2\n", r"v\.csv:2: has 2 numbers, the model takes 5"),
        ("vector", "v.csv", (VECTORS + "1,2,3,4,5\n1,x,3,4,5\n").encode(), r"v\.csv:3: column 'b' is 'x'"),
        ("vector", "v.csv", (VECTORS + "1,2,nan,4,5\n").encode(), r"v\.csv:2: column 'c' is 'nan'"),
        ("vector", "v.csv", b"1,2,3,4,5\n1,2,3,4,6\n", r"v\.csv: the first line must name the columns"),
        ("vector", "v.jsonl", b'{"vector": [1, 2]}\n', r"v\.jsonl:1: has 2 numbers"),
        ("vector", "v.jsonl", b'{"vector": [1, true]}\n', r"v\.jsonl:1: column 'vector' is 'True'"),
        ("vector", "v.jsonl", b'{"a": 1}\n{"b": 1}\n', r"v\.jsonl:2: column 'a' is not in every row"),
        ("vector", "v.npy", b"nothing", r"v\.npy: is no readable \.npy file"),
        ("image", "i.png", b"nothing", r"i\.png: not an image"),
        ("image", "i.csv", b"a\n", r"i\.csv: the model takes images: an image, or a folder of images"),
    ],
)
def test_bad_rows_are_named(
    workshop: Workshop, tmp_path: Path, modality: str, name: str, content: bytes, told: str
) -> None:
    model = workshop.export(CELLS[modality])
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.csv"
    with pytest.raises((MlclError, DataError), match=told) as error:
        workshop.run("predict", model, tmp_path / name, "--out", out)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == [name], "neither a half nor a whole file is left"


def test_rows_that_do_not_fit_are_named_in_arrays_and_folders(workshop: Workshop, tmp_path: Path) -> None:
    points, photos = workshop.export(POINTS), workshop.export(PHOTOS)
    np.save(tmp_path / "wide.npy", np.zeros((3, 6)))
    with pytest.raises(ModelError, match=r"wide\.npy: row 1: has 6 numbers, the model takes 5"):
        workshop.run("predict", points, tmp_path / "wide.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match=r"objects\.npy: is no readable"):
        workshop.run("predict", points, tmp_path / "objects.npy")
    folder = shutil.copytree(raw_test_file(workshop, "photos"), tmp_path / "photos")
    (folder / "notes.md").write_text("no image")
    result = workshop.run("predict", photos, folder, "--out", tmp_path / "out.csv")
    assert "1 files are no images and are left out" in result.stderr
    cut = sorted(folder.glob("*.png"))[0]
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(ModelError, match=rf"{re.escape(str(cut))}: the image cannot be decoded"):
        workshop.run("predict", photos, folder)
    with pytest.raises(ModelError, match=r"nowhere: there is no such file"):
        workshop.run("predict", photos, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no images"):
        workshop.run("predict", photos, tmp_path / "empty")


def test_forms_of_a_table_are_the_same_rows(tmp_path: Path) -> None:
    """Vectors as columns, lists and lists in cells, with ids and without; texts with empty lines."""
    (tmp_path / "a.csv").write_text("id,x,y\nfirst,1,2\nsecond,3,4.5\n")
    (tmp_path / "b.tsv").write_text("vector\n[1, 2]\n[3, 4.5]\n")
    (tmp_path / "c.jsonl").write_text('{"x": 1, "y": 2}\n{"y": 4.5, "x": 3, "id": 7}\n')
    np.save(tmp_path / "d.npy", np.array([[1, 2], [3, 4.5]]))
    ids = {"a.csv": ["first", "second"], "b.tsv": ["1", "2"], "c.jsonl": ["1", "7"], "d.npy": ["1", "2"]}
    for name, expected in ids.items():
        rows = list(open_rows(tmp_path / name, "vector").rows)
        assert [row.row_id for row in rows] == expected
        assert [list(row.content) for row in rows] == [[1, 2], [3, 4.5]], name
    (tmp_path / "e.txt").write_text("one\n\nthree\n")
    assert [(row.row_id, row.content) for row in open_rows(tmp_path / "e.txt", "text").rows] == [
        ("1", "one"), ("2", ""), ("3", "three"),
    ]  # fmt: skip
    (tmp_path / "f.jsonl").write_text('{"id": "x", "body": "one"}\n{"body": null}\n')
    found = list(open_rows(tmp_path / "f.jsonl", "text", TableForm("body")).rows)
    assert [(row.row_id, row.content) for row in found] == [("x", "one"), ("2", "")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--threshold", "high"], "threshold 'high': valid are tuned"),
        (["--threshold", "1.5"], "threshold '1.5'"),
        (["--device", "tpu"], "device 'tpu': valid are auto, cpu, cuda"),
    ],
)
def test_wrong_options_are_told(workshop: Workshop, arguments: list[str], told: str) -> None:
    model, raw = workshop.export(POINTS), raw_test_file(workshop, "points")
    with pytest.raises(ModelError, match=told):
        workshop.run("predict", model, raw, *arguments)


def test_the_input_is_never_overwritten(workshop: Workshop) -> None:
    model, raw = workshop.export(NOTES), raw_test_file(workshop, "notes")
    before = raw.read_bytes()
    with pytest.raises(MlclError, match="is the file that is read"):
        workshop.run("predict", model, raw, "--out", raw)
    assert raw.read_bytes() == before


@pytest.mark.parametrize(
    ("inputs", "told"),
    [("text", "give a list"), ([3], "input 0: expected a text, got int"), (["a", None], "input 1")],
)
def test_python_is_told_which_input_is_wrong(workshop: Workshop, inputs: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        load_model(workshop.export(NOTES)).predict(inputs)


def test_broken_models_are_refused_with_the_file_at_fault(workshop: Workshop, tmp_path: Path) -> None:
    model = workshop.export(NOTES)

    def broken(name: str, change: Any) -> Path:
        copy = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(model, copy)
        change(copy / name)
        seal_anew(copy)
        return copy

    def changed(**changes: Any) -> Any:
        def change(file: Path) -> None:
            file.write_text(json.dumps(json.loads(file.read_text()) | changes))

        return change

    def without_a_tensor(file: Path) -> None:
        tensors = safetensors.torch.load_file(file)
        tensors.pop("encoder.tokens.weight")
        safetensors.torch.save_file(tensors, file)

    def pickled(file: Path) -> None:
        torch.save({"encoder.tokens.weight": torch.zeros(2)}, file)

    # By linear heads alone, without thresholds, whose number would be the first thing to be wrong.
    linear = {"linear": {"kind": "linear"}}
    for name, change, told in (
        ("config.json", Path.unlink, r"is not a model's folder \(config\.json is missing\)"),
        ("config.json", lambda file: file.write_text("{"), r"config\.json: cannot be read"),
        ("config.json", changed(format=9), r"config\.json: has format 9, this version of mlcl reads format 2"),
        ("config.json", changed(labels=["one"]), r"config\.json: .*thresholds: 2 for 1 labels"),
        ("config.json", changed(colour="red"), r"config\.json: colour"),
        ("config.json", changed(labels=["a", "b", "c"], readouts=linear), r"heads: made for 2 labels, .* 3"),
        ("model.safetensors", Path.unlink, r"config\.json: lists no model\.safetensors"),
        ("model.safetensors", lambda file: file.write_bytes(b"half"), r"model\.safetensors: is no readable"),
        ("model.safetensors", pickled, r"model\.safetensors: is no readable"),
        ("model.safetensors", without_a_tensor, r"does not fit its config\.json \(1 tensors, such as tokens\.weight"),
        ("tokenizer.json", Path.unlink, r"tokenizer\.json: is missing"),
        ("tokenizer.json", lambda file: file.write_text("{}"), r"tokenizer\.json: is no tokenizer"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=told):
            load_model(broken(name, change))


def test_a_flipped_bit_of_a_model_is_refused_with_the_file_at_fault(
    workshop: Workshop, tmp_path: Path
) -> None:
    model = workshop.export(NOTES)
    files = [
        path.relative_to(model) for path in model.rglob("*") if path.is_file() and path.name != "README.md"
    ]
    assert {str(name) for name in files} >= {"config.json", "model.safetensors", "tokenizer.json"}
    draw = random.Random(0)
    for number, name in enumerate(files * 4):
        copy = tmp_path / str(number)
        shutil.copytree(model, copy)
        content = bytearray((copy / name).read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (copy / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name}: (is not what was written|cannot be read|has format)"):
            load_model(copy)
    (copy := tmp_path / "without").mkdir()
    shutil.copytree(model, copy, dirs_exist_ok=True)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: is missing; export the model again"):
        load_model(copy)


def test_rows_keep_their_ids_and_lost_lines_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('key\ttext\nx\t"one\ny\ttwo" three\n')
    rows = list(open_rows(tmp_path / "a.tsv", "text", TableForm(id_column="key")).rows)
    assert [(row.row_id, row.content) for row in rows] == [("x", '"one'), ("y", 'two" three')]
    (tmp_path / "b.csv").write_text('text\n"one\ntwo"\n\nthree\n')
    source = open_rows(tmp_path / "b.csv", "text")
    assert [row.content for row in source.rows] == ["one\ntwo", "three"]
    assert [remark.split(": ", 1)[1][:32] for remark in source.remarks] == [
        "5 lines are 2 rows: 1 quoted cel", "1 blank lines are no rows",
    ]  # fmt: skip
    (tmp_path / "c.csv").write_text('text\n"one\ntwo\n')
    with pytest.raises(DataError, match=r"c\.csv:2: a quotation mark is not closed"):
        list(open_rows(tmp_path / "c.csv", "text").rows)
    with pytest.raises(ModelError, match="there is no column 'name'"):
        list(open_rows(tmp_path / "b.csv", "text", TableForm(id_column="name")).rows)
    (tmp_path / "d.csv").write_text("text;id\none;7\n")
    form = TableForm(delimiter=";")
    assert [(row.row_id, row.content) for row in open_rows(tmp_path / "d.csv", "text", form).rows] == [
        ("7", "one")
    ]


def test_half_an_emoji_is_replaced_as_in_prepared_datasets(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "cut \\ud83d"}\n')
    assert [row.content for row in open_rows(tmp_path / "a.jsonl", "text").rows] == ["cut \ufffd"]


@pytest.mark.parametrize("value", ["nan", "1e999", "1_000", "", "x"])
def test_vectors_must_be_finite_numbers(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.csv").write_text(f"x,y\n1,{value}\n")
    with pytest.raises(ModelError, match=r"a\.csv:2: column 'y' is .*expected a finite number"):
        list(open_rows(tmp_path / "a.csv", "vector").rows)
    np.save(tmp_path / "b.npy", np.array([[1, np.nan]]))
    with pytest.raises(ModelError, match=r"row 1, column 1 \(from 0\) is nan"):
        list(open_rows(tmp_path / "b.npy", "vector").rows)
