"""The user's own data: every kind, and the page that documents them."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError
from mlcl.data import PreparedDataset
from tests.data.own import prepare, rows_of

REPOSITORY = Path(__file__).parents[2]
TEXTS = [f"text number {number}" for number in range(20)]
TAGS = [["a", "b"], ["b"], [], ["c", "b"]]


def csv_table(path: Path, separator: str = ",") -> Path:
    rows = [separator.join(["text", "tags", "a", "b", "c"])]
    for number, text in enumerate(TEXTS):
        tags = TAGS[number % 4]
        rows.append(
            separator.join([text, "|".join(tags), *("1" if label in tags else "0" for label in "abc")])
        )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_tables_of_all_kinds_read_alike(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    csv_table(tmp_path / "t.csv")
    csv_table(tmp_path / "t.tsv", "\t")
    lists = [{"text": text, "tags": TAGS[number % 4]} for number, text in enumerate(TEXTS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lists)), encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lists), tmp_path / "t.parquet")
    expected = {text: sorted(TAGS[number % 4]) for number, text in enumerate(TEXTS)}
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet"):
        dataset = prepare(tmp_path, "table", path=name, text="text", label_list="tags", separator="|")
        assert {text: sorted(labels) for text, labels in rows_of(dataset).items()} == expected
        assert dataset.label_names == ["b", "a", "c"]  # by frequency
        assert [len(dataset[split]) for split in ("train", "val", "test")] == [14, 2, 4]
    columns = prepare(tmp_path, "table", path="t.csv", text="text", label_columns=["a", "b", "c"])
    assert rows_of(columns) == expected
    assert columns.card["warnings"]


def test_null_is_no_label_and_zero_is_one(tmp_path: Path) -> None:
    cells = {0: ["0"], 3: ["3"], None: [], "0,3": ["0", "3"], (0, None): ["0"], (None,): [], (): []}
    rows = [{"text": f"row {number}", "tags": tags} for number, tags in enumerate([*cells, *cells])]
    rows += [{"text": 0, "tags": 0}, {"text": None, "tags": 0}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = rows_of(prepare(tmp_path, "table", path="t.jsonl", text="text", label_list="tags"))
    expected = {f"row {number}": labels for number, labels in enumerate([*cells.values(), *cells.values()])}
    assert found == {**expected, "0": ["0"], "": ["0"]}


def test_half_characters_are_replaced_and_counted(tmp_path: Path) -> None:
    """A tweet that was cut within an emoji."""
    rows = [f'{{"text": "row {number} \\ud83d\\ude00 \\ud83d", "tags": ["a"]}}' for number in range(10)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows), encoding="utf-8")
    dataset = prepare(tmp_path, "table", path="t.jsonl", text="text", label_list="tags")
    assert set(rows_of(dataset)) == {f"row {number} \U0001f600 \ufffd" for number in range(10)}
    warnings = [item for item in dataset.card["warnings"] if "surrogates" in item["kind"]]
    assert sum(item["count"] for item in warnings) == 10
    assert "t.jsonl:" in warnings[0]["examples"][0]
    (tmp_path / "t.jsonl").write_text("\n".join(rows).replace('"a"', '"\\ud83d"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"label '\\ud83d' holds half a character"):
        prepare(tmp_path, "table", path="t.jsonl", text="text", label_list="tags")


def test_splits_may_be_given_by_files_or_by_a_column(tmp_path: Path) -> None:
    csv_table(tmp_path / "t.csv")
    given = prepare(tmp_path, "table", path="t.csv", test_path="t.csv", text="text", label_columns=["a"])
    assert [len(given[split]) for split in ("train", "val", "test")] == [18, 2, 20]
    rows = "\n".join(f"x{n},{split},1" for n, split in enumerate(["train", "dev", "test", "Train"]))
    (tmp_path / "s.csv").write_text(f"text,part,a\n{rows}\n", encoding="utf-8")
    named = prepare(tmp_path, "table", path="s.csv", text="text", split="part", label_columns=["a"])
    assert [list(named[split].texts) for split in ("train", "val", "test")] == [["x0", "x3"], ["x1"], ["x2"]]


TABLE = {"path": "t.csv", "text": "text", "label_list": "tags"}


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"text,tags\nhello\n", TABLE, r"t\.csv:2: 1 cells, the header has 2"),
        (b"text,tags\na,b,c\n", TABLE, r"t\.csv:2: 3 cells, the header has 2"),
        (b"text,tags\n\xe9t\xe9,b\n", TABLE, r"t\.csv:2: not UTF-8"),
        (b"txt,tags\n" + b"a,b\n" * 9, TABLE, r"t\.csv:2: there is no column 'text': did you mean txt"),
        (b"text,text\na,b\n", TABLE, "column names occur twice"),
        (b"text,tags\na,c\n", {**TABLE, "labels": ["a", "b"]}, r"t\.csv:2: label 'c' is not in the list"),
        (b"text,tags\na,b\n", {**TABLE, "label_columns": ["b"]}, "say either label_columns"),
        (
            b"text,tags\na,x\n",
            {"path": "t.csv", "text": "text", "label_columns": ["tags"]},
            "'x', expected 0 or 1",
        ),
        (b"text,tags\na,b\nb,b\n", TABLE, "would be empty"),
        (b"text,tags,n\n" + b"a,b,1\n" * 9, {**TABLE, "id": "n"}, "the id '1' (occurs twice|is in)"),
        (b"text,tags,s\na,b,trial\n", {**TABLE, "split": "s"}, "split 'trial'"),
        (
            b"",
            {**TABLE, "path": "t.xlsx"},
            r"raw files are missing: t\.xlsx; looked for in .*check the paths",
        ),
        (b"text,tags\n", {"path": "t.csv", "label_list": "tags"}, "say either text .* or file"),
    ],
)
def test_a_wrong_table_is_an_error_with_its_row(
    tmp_path: Path, content: bytes, settings: dict, message: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, "table", **settings)


def test_csv_with_crlf_quotes_and_line_breaks_in_cells(tmp_path: Path) -> None:
    cells = '"a ""quoted"", line\r\nbreak",x\r\n5" disk,x\r\nplain,x\r\n' + "more,x\r\n" * 7
    (tmp_path / "t.csv").write_bytes(("\ufefftext,tags\r\n" + cells).encode())
    texts = rows_of(prepare(tmp_path, "table", **TABLE))
    assert {'a "quoted", line break', '5" disk', "plain", "more"} == set(texts)


def picture(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (10, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(12):
        (tmp_path / "photos" / f"{number}.png").write_bytes(picture(10 * number))
    rows = "\n".join(f"{number}.png,{number % 2},{number % 3 == 0:d}" for number in range(12))
    (tmp_path / "photos.csv").write_text(f"name,cat,dog\n{rows}\n", encoding="utf-8")
    return tmp_path


def shown(dataset: PreparedDataset) -> dict[int, list[int]]:
    """The red value of each image -> its labels."""
    return {
        int(pixels[0, 0, 0]) // 10: labels.tolist()
        for split in map(dataset.__getitem__, ("train", "val", "test"))
        for pixels, labels in zip(split.images, split.dense_labels(), strict=True)
    }


def test_images_with_a_table_a_coco_json_or_voc_files(photos: Path) -> None:
    expected = {number: [number % 2, int(number % 3 == 0)] for number in range(12)}
    columns = {"label_columns": ["cat", "dog"], "size": 8}
    first = prepare(photos, "images", folder="photos", table="photos.csv", file="name", **columns)
    second = prepare(photos, "table", path="photos.csv", folder="photos", file="name", **columns)
    coco = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(12)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": number, "category_id": category}
            for number, labels in expected.items()
            for category, label in zip((1, 3), labels, strict=True)
            if label
        ],
    }
    (photos / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    third = prepare(photos, "images", folder="photos", coco="coco.json", size=8)
    (photos / "xml").mkdir()
    for number, labels in expected.items():
        objects = [
            f"<object><name>{name}</name></object>"
            for name, there in zip(("cat", "dog"), labels, strict=True)
            if there
        ]
        (photos / "xml" / f"{number}.xml").write_text(
            f"<annotation>{''.join(objects)}</annotation>", encoding="utf-8"
        )
    fourth = prepare(photos, "images", folder="photos", voc="xml", size=8, labels=["cat", "dog"])
    for dataset in (first, second, third, fourth):
        assert dataset.modality == "image"
        assert dataset.label_names == ["cat", "dog"]
        assert shown(dataset) == expected
        assert dataset["train"].sizes[0].tolist() == [8, 10]


def annotate(root: Path, name: str, label: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    xml = f"<annotation><object><name>{label}</name></object></annotation>"
    (root / name).write_text(xml, encoding="utf-8")


def test_voc_files_belong_to_the_image_of_their_path(tmp_path: Path) -> None:
    """Folders that count from 1 each; annotations may lie beside the images."""
    for number in range(12):
        image = tmp_path / "photos" / "ab"[number % 2] / f"{number // 2}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(picture(10 * number))
        for folder in ("photos", "xml"):
            annotate(tmp_path / folder, f"{'ab'[number % 2]}/{number // 2}.xml", ["cat", "dog"][number % 2])
    settings = {"folder": "photos", "size": 8, "labels": ["cat", "dog"]}
    for voc in ("photos", "xml"):
        dataset = prepare(tmp_path, "images", voc=voc, **settings)
        assert shown(dataset) == {number: [1 - number % 2, number % 2] for number in range(12)}
    annotate(tmp_path / "flat", "3.xml", "cat")
    with pytest.raises(DataError, match=r"voc: flat belongs .*: 3\.xml and a/3\.png, b/3\.png"):
        prepare(tmp_path, "images", voc="flat", **settings)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "3.png").write_bytes(picture(0))
    with pytest.raises(DataError, match=r": a/3\.xml, b/3\.xml and 3\.png;"):
        prepare(tmp_path, "images", voc="xml", **{**settings, "folder": "one"})


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number in range(2500):
            archive.writestr(f"{number}.png", picture(number % 256))
    rows = "\n".join(f"{number}.png,1" for number in range(2500))
    (tmp_path / "photos.csv").write_text(f"file,cat\n{rows}\n", encoding="utf-8")
    settings = {"folder": "photos.zip", "table": "photos.csv", "label_columns": ["cat"], "size": 224}
    code = (
        "import sys, pathlib, data_prep; root = pathlib.Path(sys.argv[1]);"
        f"data_prep.prepare(data_prep.plan('images', {settings!r}, root, False), root, root / 'out');"
        "status = pathlib.Path('/proc/self/status').read_text().splitlines();"
        "print(next(line.split()[1] for line in status if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    stored = sum(path.stat().st_size for path in (tmp_path / "out").rglob("images.npy"))
    assert stored > 350_000_000
    assert int(done.stdout) * 1024 < 150_000_000


def test_damaged_missing_and_unlabelled_images_are_not_passed_over(photos: Path) -> None:
    settings = {
        "folder": "photos",
        "table": "photos.csv",
        "file": "name",
        "label_columns": ["cat"],
        "size": 8,
    }
    good = (photos / "photos" / "3.png").read_bytes()
    (photos / "photos" / "3.png").write_bytes(good[:40])
    with pytest.raises(DataError, match=r"3\.png: "):
        prepare(photos, "images", **settings)
    (photos / "photos" / "3.png").unlink()
    with pytest.raises(DataError, match=r"has no image 3\.png"):
        prepare(photos, "images", **settings)
    with pytest.raises(DataError, match="say one of table, coco and voc"):
        prepare(photos, "images", folder="photos")
    (photos / "xml").mkdir()
    for number in range(8):
        xml = "<annotation><object><name>cat</name></object></annotation>"
        (photos / "xml" / f"{number}.xml").write_text(xml, encoding="utf-8")
    left_out = prepare(photos, "images", folder="photos", voc="xml", size=8).card["warnings"][0]
    assert left_out["kind"] == "images without an annotation are left out"
    assert left_out["count"] == 4


def test_arff_of_ones_own(tmp_path: Path) -> None:
    rows = "\n".join(f"{number},{number % 2},1" for number in range(20))
    (tmp_path / "a.arff").write_text(
        f"@relation r\n@attribute x numeric\n@attribute y {{0,1}}\n@attribute z {{0,1}}\n@data\n{rows}\n",
        encoding="utf-8",
    )
    dataset = prepare(tmp_path, "arff", path="a.arff", labels=["y"])
    assert dataset["train"].vectors.shape == (14, 2)
    for split in ("train", "val", "test"):
        assert (dataset[split].vectors[:, 0] % 2 == dataset[split].dense_labels()[:, 0]).all()
    with pytest.raises(DataError, match="say either xml"):
        prepare(tmp_path, "arff", path="a.arff")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            ["z numeric", "x numeric", "y {0,1}"],
            r"test\.arff: .*train\.arff: number 0 .* is z \(numeric\), there x",
        ),
        (["x numeric", "z {a,b}", "y {0,1}"], r"number 1 \(from 0\) is z \{a,b\}, there z \(numeric\)"),
        (
            ["x numeric", "z numeric", "y {0,1}", "w real"],
            r"number 3 \(from 0\) is w \(numeric\), there missing",
        ),
        (["X numeric", "z numeric", "y {0,1}"], r"same attributes, values and order"),
    ],
)
def test_arff_files_of_other_attributes_are_refused(
    tmp_path: Path, attributes: list[str], message: str
) -> None:
    def write(name: str, attributes: list[str]) -> None:
        header = "".join(f"@attribute {attribute}\n" for attribute in attributes)
        (tmp_path / name).write_text(header + "@data\n" + "{0 1}\n" * 9, encoding="utf-8")

    write("train.arff", ["x numeric", "z numeric", "y {0,1}"])
    write("test.arff", attributes)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, "arff", path="train.arff", test_path="test.arff", labels=["y"])


def test_arff_attributes_that_are_left_out_are_in_the_card(tmp_path: Path) -> None:
    values = ",".join(f"v{number}" for number in range(101))
    header = f"@attribute x numeric\n@attribute name {{{values}}}\n@attribute y {{0,1}}\n@data\n"
    rows = "".join(f"{number},v{number},{number % 2}\n" for number in range(20))
    (tmp_path / "a.arff").write_text(header + rows, encoding="utf-8")
    dataset = prepare(tmp_path, "arff", path="a.arff", labels=["y"])
    assert dataset["train"].vectors.shape == (14, 1)
    assert "Left out as identifiers (many nominal values): name." in dataset.card["notes"]


def test_svmlight_with_and_without_the_first_line(tmp_path: Path) -> None:
    rows = "\n".join(
        f"{number % 3},3 0:{number} 4:0.5" if number % 4 else f" 0:{number} 4:0.5" for number in range(20)
    )
    (tmp_path / "plain.txt").write_text(rows + "\n", encoding="utf-8")
    (tmp_path / "headed.txt").write_text(f"20 6 5\n{rows}\n", encoding="utf-8")
    plain = prepare(tmp_path, "svmlight", path="plain.txt")
    headed = prepare(tmp_path, "svmlight", path="headed.txt")
    assert (plain["train"].vectors.shape[1], plain.num_labels) == (5, 4)
    assert (headed["train"].vectors.shape[1], headed.num_labels) == (6, 5)
    for row, labels in zip(headed["train"].vectors, headed["train"].dense_labels(), strict=True):
        number = int(row[0])
        assert row[4] == 0.5
        assert np.flatnonzero(labels).tolist() == (sorted({number % 3, 3}) if number % 4 else [])
    assert sum(split["empty_rows"] for split in headed.card["splits"].values()) == 5
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    assert prepare(tmp_path, "svmlight", path="plain.txt", label_names="names.txt").label_names == [
        "a",
        "b",
        "c",
        "d",
    ]
    hashed = prepare(tmp_path, "svmlight", path="plain.txt", hashed=3)
    assert hashed["train"].vectors.shape[1] == 3
    assert np.abs(hashed["train"].vectors).sum() > 0


@pytest.mark.parametrize(
    ("before", "after", "empty"),
    [
        ("", "", 1),  # the blank line between rows
        ("# written by a tool\n", "\n\n# the end\n\n", 1),  # blank lines at the end are no rows
        ("", " \n", 2),  # ... unless they hold scikit-learn's space
        ("12 5 2\n", "", 1),
        ("12 5 2\n", " \n\n", 1),
        ("13 5 2\n", "\n\n", 2),  # the first line counts one of them
    ],
)
def test_blank_lines_of_svmlight_are_empty_rows(tmp_path: Path, before: str, after: str, empty: int) -> None:
    rows = "".join(f"{number % 2} 0:{number + 1} # row\n" + "\n" * (number == 4) for number in range(11))
    (tmp_path / "f.txt").write_text(before + rows + after, encoding="utf-8")
    dataset = prepare(tmp_path, "svmlight", path="f.txt")
    splits = [dataset[split] for split in ("train", "val", "test")]
    values = np.concatenate([split.vectors[:, 0] for split in splits])
    labels = np.concatenate([split.dense_labels() for split in splits])
    assert sorted(values) == [0] * empty + list(range(1, 12))
    for value, row in zip(values, labels, strict=True):
        assert np.flatnonzero(row).tolist() == ([] if value == 0 else [(int(value) - 1) % 2])


def test_a_blank_line_too_many_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("2 1 1\n0 0:1\n\n0 0:1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"found are 3, 1, 1 \(a blank line between rows is a row\)"):
        prepare(tmp_path, "svmlight", path="f.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2 6 5\n1 0:1\n", r"f\.txt:1: states 2 rows, 6 features, 5 labels; found are 1, 1, 2"),
        ("1 0:1\nx 0:1\n", r"f\.txt:2: expected labels"),
        ("1 0:1 a:b\n", r"f\.txt:1: expected labels"),
        ("1 -3:1\n", "start at 0"),
        ("1 50000:1\n", "50001 features are too many .* hashed"),
    ],
)
def test_a_wrong_svmlight_file_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "f.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, "svmlight", path="f.txt")


@pytest.mark.slow
def test_a_saved_dataset_of_the_datasets_library(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "labels": datasets.Sequence(datasets.ClassLabel(names=["joy", "fear"])),
        }
    )
    rows = {"text": TEXTS, "labels": [[number % 2] if number % 3 else [] for number in range(20)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "two")
    plain = datasets.Dataset.from_dict({"text": TEXTS, "labels": [[7, 9] for _ in TEXTS]})
    plain.save_to_disk(tmp_path / "three")
    one = prepare(tmp_path, "huggingface", path="one")
    assert one.label_names == ["joy", "fear"]
    assert rows_of(one)["text number 1"] == ["fear"]
    two = prepare(tmp_path, "huggingface", path="two")
    assert [len(two[split]) for split in ("train", "val", "test")] == [18, 2, 20]
    three = prepare(tmp_path, "huggingface", path="three")
    assert three.label_names == ["7", "9"]
    assert rows_of(three)["text number 1"] == ["7", "9"]
    nulls = {"text": [None, *TEXTS[1:]], "labels": [[None, 0, 5][number % 3] for number in range(20)]}
    datasets.Dataset.from_dict(nulls).save_to_disk(tmp_path / "four")
    four = prepare(tmp_path, "huggingface", path="four")
    assert four.label_names == ["0", "5"]
    assert [rows_of(four)[text] for text in ("", *TEXTS[1:4])] == [[], ["0"], ["5"], []]
    lists = {"text": TEXTS, "labels": [[number % 2, None] for number in range(20)]}
    datasets.Dataset.from_dict(lists).save_to_disk(tmp_path / "five")
    assert prepare(tmp_path, "huggingface", path="five").label_names == ["0", "1"]
    with pytest.raises(DataError, match="there is no column 'body'"):
        prepare(tmp_path, "huggingface", path="one", text="body")
    with pytest.raises(DataError, match="needs revision"):
        prepare(tmp_path, "huggingface", name="owner/name")
    with pytest.raises(DataError, match="either path"):
        prepare(tmp_path, "huggingface")


def test_the_documented_example_runs(tmp_path: Path) -> None:
    """Writes the page's table, runs its command and its Python."""
    page = (REPOSITORY / "docs" / "your_data.md").read_text(encoding="utf-8")
    (tmp_path / "reviews.csv").write_text(
        re.search(r"```csv file=reviews\.csv\n(.*?)```", page, re.S)[1], encoding="utf-8"
    )
    command = re.search(r"```bash\n(.*?)```", page, re.S)[1].replace("python", sys.executable, 1)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, check=True)
    code = re.search(r"```python\n(.*?)```", page, re.S)[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("['price', 'quality', 'service'] 7 ")


def test_the_documented_example_is_trained_and_tabled(tmp_path: Path) -> None:
    """Ten reviews, one of them without labels: the study that the page describes has a table in the end."""
    page = (REPOSITORY / "docs" / "your_data.md").read_text(encoding="utf-8")
    table, entry = re.search(r"```csv file=reviews\.csv\n(.*?)```.*?```yaml\n(.*?)```", page, re.S).groups()
    (tmp_path / "reviews.csv").write_text(table, encoding="utf-8")
    (tmp_path / "study.yaml").write_text(
        f"title: Tags of reviews\nseeds: [0]\n{entry}    seed: 9\n"
        "encoders: {text: {transformer: {dim: 32}}}\nlosses: [bce]\nbaselines: [label_prior]\n"
        "training: {epochs: 1, batch_size: 4, learning_rate: 0.01}\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "mlcl", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    run("prepare", "study.yaml")  # the page names the data root
    for cell in ("reviews/transformer/bce/base/seed0", "reviews/none/label_prior/base/seed0"):
        run("train", "study.yaml", cell)
    run("aggregate", "study.yaml")
    run("tables", "study.yaml")
    main = (tmp_path / "paper_tables" / "study" / "main.md").read_text(encoding="utf-8")
    assert "BCE" in main.upper()
    assert "| reviews (transformer)<br>" in main, (
        "without a title the dataset is called by its key in the study"
    )
