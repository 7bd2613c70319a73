"""How many rows a dataset of a plan has, and how much room it takes: counted where it is prepared, else as published.

Published counts are of what the publisher distributes; what the source's settings leave of it for training follows
from these. A validation split that is drawn makes the numbers approximate. Where the raw files are not the published
ones (`accept_local`), nothing is known before they are prepared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep import registry
from data_prep.format import CARD, SPLITS, TEXT_OFFSETS
from data_prep.planning import make_plan
from data_prep.source import validate

if TYPE_CHECKING:
    from mlcl.study.plan import Plan, PlannedDataset

FLOAT = 4
"""Bytes."""
BYTES_OF_A_TOKEN = 4
"""Of English in the mean; each text has a token before and one after it."""


@dataclass(frozen=True)
class Size:
    """Rows of a dataset before a subset is drawn; `width`: of an image in pixels, of a vector in numbers."""

    train: int
    evaluated: int
    labels: int | None
    width: int | None
    basis: Literal["counted", "published"]


def size_of(dataset: PlannedDataset, plan: Plan) -> Size | None:
    """From the card of the prepared dataset or the copy beside its records, else from what is published."""
    name = dataset.name
    entry = registry.find(plan.study.datasets[name].source)
    settings = validate(entry.source.settings, plan.study.datasets[name].settings, entry.preset, name)
    about = entry.source.about(settings) if callable(entry.source.about) else entry.source.about
    given = dataset.facts.settings
    width = given.get("size") or given.get("canvas") or about.published.get("features")
    card = _card(dataset, plan)
    if card is not None:
        rows = {split: counts["examples"] for split, counts in card["splits"].items()}
        evaluated = sum(rows.values()) - rows["train"]
        return Size(rows["train"], evaluated, len(card["labels"]), width, "counted")
    if _has_unpublished_files(dataset, plan):
        return None
    rows_published = published_rows(about.published, dataset.facts.settings)
    if rows_published is None:
        return None
    return Size(*rows_published, about.published.get("labels"), width, "published")


def _has_unpublished_files(dataset: PlannedDataset, plan: Plan) -> bool:
    """Are there raw files that are not the published ones, so that their counts say nothing?"""
    entry = plan.study.datasets[dataset.name]
    if dataset.recipe is None or not entry.accept_local:
        return False
    files = make_plan(entry.source, entry.settings, plan.data_root, entry.accept_local).raw
    return any(item.state == "local" for item in files)


def published_rows(published: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Training rows, and validation and test rows, that a source's published counts and settings lead to.

    Where validation is a drawn share of what is published, so are these numbers: about right, not exact.
    """
    if all(isinstance(settings.get(split), int) for split in ("train", "val", "test")):
        return settings["train"], settings["val"] + settings["test"]  # as many as one asks for
    named = dict(published.get("examples", {}))
    for split in ("train", "val"):  # MS-COCO: "train2014"; its val is the usual test
        for key, count in published.items():
            if key.startswith(split) and key.removeprefix(split).isdigit():
                named["train+val" if split == "train" else "test"] = count
    val, test = settings.get("val", 0.1), settings.get("test", 0.1)
    if named:
        total = sum(named.values())
        whole = named.get("train+val") or named["train"] + named.get("val", 0)
        match settings.get("split", "official"):
            case "comprehensive":
                train = whole
            case "official" if "train" in named:
                train = named["train"]
            case _:
                train = round(whole * (1 - val))
        return train, total - train
    if "rows" in published:
        train = round(published["rows"] * (1 - val - test))
        return train, published["rows"] - train
    return None


def _card(dataset: PlannedDataset, plan: Plan) -> dict[str, Any] | None:
    copy = plan.paths.card(dataset.name)
    for file in (dataset.folder / CARD if dataset.folder else copy, copy):
        try:
            card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if dataset.recipe is None or card["fingerprint"] == dataset.recipe.fingerprint:
            return card
    return None


def text_lengths(dataset: PlannedDataset) -> NDArray[np.float64] | None:
    """(N,) tokens of each text, at four bytes a token; None before the dataset is prepared, and without texts."""
    if dataset.folder is None:
        return None
    files = [dataset.folder / split / TEXT_OFFSETS for split in SPLITS]
    if not all(file.exists() for file in files):
        return None
    lengths = np.concatenate([np.diff(np.load(file)) for file in files])
    return lengths / BYTES_OF_A_TOKEN + 2 if len(lengths) else None


def prepared_bytes(dataset: PlannedDataset, size: Size | None) -> int | None:
    """What lies there, else what the form of images and vectors leads to; texts are known when they are prepared."""
    if dataset.folder is not None and dataset.folder.is_dir():
        return sum(file.stat().st_size for file in dataset.folder.rglob("*") if file.is_file())
    if size is None or size.width is None:
        return None
    each = 3 * size.width**2 if dataset.facts.modality == "image" else FLOAT * size.width
    return (size.train + size.evaluated) * each
