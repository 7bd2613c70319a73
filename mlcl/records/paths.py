"""Where everything lies, relative to the working directory. The one place that knows the layout of `results/`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
RESERVED_NAMES = frozenset({"code", "figures", "logs", "reference", "specs"})

RESULTS = Path("results")
PREPARED = RESULTS / ".prepared"
PAPER_TABLES = Path("paper_tables")
BOOKKEEPING = Path(".snakemake") / "mlcl"


def is_valid_name(name: str) -> bool:
    """Can `name` be a part of a path in `results/`?"""
    return re.fullmatch(NAME_PATTERN, name) is not None


@dataclass(frozen=True)
class CellId:
    """The coordinates of a cell; its path below `results/<study>/`."""

    dataset: str
    encoder: str
    loss: str
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.encoder}/{self.loss}/{self.variant}/seed{self.seed}"

    @classmethod
    def parse(cls, text: str) -> CellId:
        """The inverse of `str`. Raises ValueError for anything else."""
        match = re.fullmatch(
            rf"({NAME_PATTERN})/({NAME_PATTERN})/({NAME_PATTERN})/({NAME_PATTERN})/seed(\d+)", text
        )
        if match is None:
            raise ValueError(f"'{text}' is no cell; expected <dataset>/<encoder>/<loss>/<variant>/seed<k>")
        dataset, encoder, loss, variant, seed = match.groups()
        return cls(dataset, encoder, loss, variant, int(seed))


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study, named after its file's stem."""

    study: str

    @property
    def results(self) -> Path:
        return RESULTS / self.study

    @property
    def tables(self) -> Path:
        return PAPER_TABLES / self.study

    @property
    def figures(self) -> Path:
        return self.results / "figures"

    @property
    def logs(self) -> Path:
        return self.results / "logs"

    @property
    def metrics_csv(self) -> Path:
        return self.results / "metrics.csv"

    @property
    def costs_csv(self) -> Path:
        return self.results / "costs.csv"

    @property
    def cells_csv(self) -> Path:
        return self.results / "cells.csv"

    @property
    def pair_weights(self) -> Path:
        return self.results / "pair_weights.json"

    @property
    def report(self) -> Path:
        return self.results / "report.html"

    @property
    def complete(self) -> Path:
        return self.results / "complete.txt"

    @property
    def outline(self) -> Path:
        """What reporting has to know of the study: written when planning, only if it changed."""
        return BOOKKEEPING / self.study / "outline.json"

    def card(self, dataset: str) -> Path:
        """A copy of the dataset's card beside the records, so that these can be reported on without the data."""
        return self.results / dataset / "card.json"

    def cell(self, cell: CellId) -> Path:
        return self.results / str(cell)

    def record(self, cell: CellId) -> Path:
        return self.cell(cell) / "metrics.json"

    def request(self, cell: CellId) -> Path:
        """What is asked of a cell. Newer than the record exactly if the record is stale (see `plan`)."""
        return BOOKKEEPING / self.study / str(cell) / "cell.json"

    def dataset_request(self, dataset: str) -> Path:
        return BOOKKEEPING / self.study / dataset / "dataset.json"


def prepared(dataset: str, fingerprint: str) -> Path:
    """The prepared dataset's folder; another fingerprint is another folder, so studies can share it."""
    return PREPARED / f"{dataset}-{fingerprint[:12]}"
