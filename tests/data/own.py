"""Helpers of the tests of users' own data."""

from pathlib import Path

import numpy as np

import data_prep
from mlcl.data import PreparedDataset, open_dataset

SPLITS = ("train", "val", "test")


def prepare(root: Path, source: str, **settings: object) -> PreparedDataset:
    """Prepare a dataset whose files lie in `root`, in a folder of its own there."""
    out = root / f"prepared_{len(list(root.glob('prepared_*')))}"
    data_prep.prepare(data_prep.plan(source, settings, root, accept_local=False), root, out)
    return open_dataset(out)


def rows_of(dataset: PreparedDataset) -> dict[str, list[str]]:
    """text -> labels, over all splits."""
    return {
        text: [dataset.label_names[number] for number in np.flatnonzero(labels)]
        for split in map(dataset.__getitem__, SPLITS)
        for text, labels in zip(split.texts, split.dense_labels(), strict=True)
    }


def kinds_of_warnings(dataset: PreparedDataset) -> list[str]:
    return [warning["kind"] for warning in dataset.card["warnings"]]
