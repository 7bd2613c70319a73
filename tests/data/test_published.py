"""Real published data, as far as it is at hand: the counts must be those of the publishers."""

import collections
from pathlib import Path

import numpy as np
import pytest

import data_prep
from data_prep.readers.archives import members, open_archive
from data_prep.readers.voc import object_classes
from data_prep.sources import voc2007
from mlcl.data import PreparedDataset, open_dataset

# rows train (all given training rows), test; features, labels, cardinality of all rows: README of the files.
MULAN = {
    "emotions": (391, 202, 72, 6, 1.868),
    "scene": (1211, 1196, 294, 6, 1.074),
    "yeast": (1500, 917, 103, 14, 4.237),
    "bibtex": (4880, 2515, 1836, 159, 2.402),
    "enron": (1123, 579, 1001, 53, 3.378),
    "medical": (333, 645, 1449, 45, 1.245),
    "corel5k": (4500, 500, 499, 374, 3.522),
    "delicious": (12920, 3185, 500, 983, 19.020),
    "tmc2007": (21519, 7077, 500, 22, 2.158),
    "genbase": (463, 199, 1186, 27, 1.252),
    "flags": (129, 65, 19, 7, 3.392),
    "cal500": (351, 151, 68, 174, 26.044),
}
# Columns differ from attributes where these are nominal: flags has 15 nominal ones, genbase names its proteins.
COLUMNS = {"flags": 43, "genbase": 1185}


def prepared(name: str, data_root: Path, out: Path, **settings: object) -> PreparedDataset:
    folder = name.split("_")[0] if name.startswith("mulan") else name
    if not (data_root / folder).exists():
        pytest.skip(f"no raw files of {name} in {data_root}")
    data_prep.prepare(data_prep.plan(name, settings, data_root, accept_local=True), data_root, out)
    return open_dataset(out)


def counted(dataset: PreparedDataset, key: str) -> list:
    return [round(split[key], 4) for split in dataset.card["splits"].values()]


@pytest.mark.parametrize("name", MULAN)
def test_mulan_sets_have_the_published_counts(name: str, data_root: Path, tmp_path: Path) -> None:
    train, test, features, labels, cardinality = MULAN[name]
    dataset = prepared(f"mulan_{name}", data_root, tmp_path / "out")
    assert [len(dataset["train"]) + len(dataset["val"]), len(dataset["test"])] == [train, test]
    assert dataset["train"].vectors.shape[1] == COLUMNS.get(name, features)
    assert dataset.num_labels == labels
    total = sum(int(split.label_offsets[-1]) for split in map(dataset.__getitem__, ("train", "val", "test")))
    assert round(total / (train + test), 3) == cardinality
    assert {entry["state"] for entry in dataset.card["raw_files"]} == {"published"}
    assert np.isfinite(dataset["test"].vectors).all()


def test_mulan_labels_without_a_positive_are_counted(data_root: Path, tmp_path: Path) -> None:
    dataset = prepared("mulan_delicious", data_root, tmp_path / "out")
    assert sum(counted(dataset, "empty_rows")) == 14
    kinds = {warning["kind"]: warning["count"] for warning in dataset.card["warnings"]}
    assert kinds["labels without a positive in test"] == 1
    assert prepared("mulan_corel5k", data_root, tmp_path / "other").card["warnings"][-1]["count"] == 111


def test_semeval_has_the_published_counts(data_root: Path, tmp_path: Path) -> None:
    dataset = prepared("semeval2018_ec", data_root, tmp_path / "out")
    assert counted(dataset, "examples") == [6838, 886, 3259]
    assert counted(dataset, "cardinality") == [2.3469, 2.4391, 2.4145]
    assert counted(dataset, "empty_rows") == [204, 14, 75]
    assert (
        dataset["train"]
        .texts[0]
        .startswith("“Worry is a down payment on a problem you may never have'.  Joyce"[:40])
    )


@pytest.mark.slow
def test_miml_has_the_published_counts(data_root: Path, tmp_path: Path) -> None:
    dataset = prepared("miml_scene", data_root, tmp_path / "out", size=32)
    splits = dataset.card["splits"].values()
    assert sum(split["examples"] for split in splits) == 2000
    counts = collections.Counter()
    for split in splits:
        counts.update(split["label_counts"])
    assert counts == {"desert": 409, "mountains": 458, "sea": 580, "sunset": 465, "trees": 560}
    assert {tuple(size) for size in dataset["train"].sizes} >= {(384, 256), (256, 384)}


@pytest.mark.slow
def test_coco_subset_has_the_counts_of_its_readme(data_root: Path, tmp_path: Path) -> None:
    dataset = prepared("coco2017", data_root, tmp_path / "out", size=32, split="official")
    assert len(dataset["train"]) + len(dataset["val"]) == 160
    assert counted(dataset, "cardinality")[2] == 3.5949
    assert dataset.num_labels == 80
    assert dataset.label_names[:3] == ["person", "bicycle", "car"]
    total = int(dataset["train"].label_offsets[-1] + dataset["val"].label_offsets[-1])
    assert total / 160 == pytest.approx(3.775)
    assert {entry["state"] for entry in dataset.card["raw_files"]} == {"local"}
    quarters = prepared("coco2017", data_root, tmp_path / "comprehensive", size=32, split="comprehensive")
    assert counted(quarters, "examples") == [160, 20, 20]


@pytest.mark.slow
def test_voc_subset_has_the_counts_of_its_readme(data_root: Path, tmp_path: Path) -> None:
    official = prepared("voc2007", data_root, tmp_path / "official", size=32)
    assert counted(official, "examples") == [377, 123, 200]
    difficult = prepared(
        "voc2007", data_root, tmp_path / "all", size=32, difficult=True, split="comprehensive"
    )
    assert counted(difficult, "examples") == [500, 100, 100]
    assert counted(difficult, "cardinality")[0] == 1.596
    assert np.mean(counted(difficult, "cardinality")[1:]) == pytest.approx(1.655, abs=1e-3)
    trainval = prepared("voc2007", data_root, tmp_path / "trainval", size=32, split="trainval")
    assert counted(trainval, "examples") == [450, 50, 200]


def test_labels_of_all_of_voc2007_are_the_published_ones(data_root: Path) -> None:
    """The official per-class lists (1 present, 0 difficult only, -1 absent) against our reading of the XML files."""
    folder = data_root / "voc2007"
    if not folder.exists():
        pytest.skip(f"no raw files of voc2007 in {data_root}")
    labels = {
        Path(name).stem: object_classes(xml, name, difficult=False)
        for name, xml in members(folder / "VOC2007_Annotations_all9963.tar.gz", ".xml")
    }
    assert len(labels) == 9963
    lists = {
        Path(name).stem: text
        for name, text in members(folder / "VOC2007_ImageSets_official.tar.gz", ".txt")
        if "/Main/" in name
    }
    totals = collections.Counter()
    for part, images in (("train", 2501), ("val", 2510), ("test", 4952)):
        for label in voc2007.CLASSES:
            rows = [line.split() for line in lists[f"{label}_{part}"].decode().splitlines()]
            assert len(rows) == images
            assert {image for image, value in rows if value == "1"} == {
                image for image, _ in rows if label in labels[image]
            }
            totals[part, label] = sum(value == "1" for _, value in rows)
    assert totals["train", "person"] + totals["val", "person"] == 2008
    assert totals["train", "car"] + totals["val", "car"] == 713
    assert totals["train", "sheep"] + totals["val", "sheep"] == 96
    assert [totals["test", label] for label in ("person", "car", "sheep")] == [2007, 721, 97]


def test_lists_inside_the_archives_are_read(data_root: Path) -> None:
    if not (data_root / "voc2007").exists():
        pytest.skip(f"no raw files of voc2007 in {data_root}")
    with open_archive(data_root / "voc2007" / "VOCtest_06-Nov-2007.tar") as archive:
        images = voc2007.image_set(archive, "test")
        assert len(images) == 200
        assert voc2007.image_labels(archive, images[0], difficult=True)
