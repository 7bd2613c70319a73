"""Where everything lies. The one place that knows the layout of `results/`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
RESERVED_NAMES = frozenset(
    {"code", "figures", "logs", "reference", "report_files", "specs", "tables", "tensorboard"}
)

RESULTS = Path("results")
PREPARED = RESULTS / ".prepared"
PAPER_TABLES = Path("paper_tables")
OUTLINE = "outline.json"
BOOKKEEPING = Path(".snakemake") / "mlcl"
"""Requests and locks: all of it can be deleted between two runs, the next plan writes it again."""


def is_valid_name(name: str) -> bool:
    """Can `name` be a part of a path in `results/`?"""
    return re.fullmatch(NAME_PATTERN, name) is not None


TRIAL = "trial-"
"""How the variant of a search's trial begins: trial-00, trial-01, ..."""
SearchRow = tuple[str, str, str]
"""Dataset, encoder, loss: what settings are searched for."""


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

    @property
    def row(self) -> SearchRow:
        return self.dataset, self.encoder, self.loss

    @property
    def is_trial(self) -> bool:
        return self.variant.startswith(TRIAL)

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
    """The files of one study.

    They lie below `root`, the working directory by default, in `results/<study>` and `paper_tables/<study>`; or, for
    a results folder that was copied elsewhere, all of them in `folder`.
    """

    study: str
    root: Path = Path()
    folder: Path | None = None
    notes: Path | None = None
    """In a dry run: the folder for all that a plan writes."""

    @property
    def results(self) -> Path:
        return self.folder or self.root / RESULTS / self.study

    @property
    def tables(self) -> Path:
        return self.folder / "tables" if self.folder else self.root / PAPER_TABLES / self.study

    @property
    def specs(self) -> Path:
        """What papers report and claim; of a copied results folder, as it stands beside this package."""
        return (Path(__file__).parents[2] if self.folder else self.root) / PAPER_TABLES / "specs"

    @property
    def figures(self) -> Path:
        return self.results / "figures"

    @property
    def logs(self) -> Path:
        return self.results / "logs"

    @property
    def outline(self) -> Path:
        """What the study asks for: written when it is planned, only if it changed."""
        return (self.notes or self.results) / OUTLINE

    @property
    def collected(self) -> Path:
        """The format of the CSV files, and what they were collected for."""
        return self.results / "collected.json"

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
    def curves_csv(self) -> Path:
        """The training loss over epochs of each cell of the variant `base`."""
        return self.results / "curves.csv"

    @property
    def jackknife(self) -> Path:
        """Metrics without each group of test examples, computed from the scores when they are first asked for."""
        return self.results / "jackknife.csv"

    @property
    def labels_csv(self) -> Path:
        """Precision, recall, F1 and average precision of each label in each cell."""
        return self.results / "labels.csv"

    @property
    def confusions(self) -> Path:
        """Which labels each loss takes for which."""
        return self.results / "confusions.json"

    @property
    def search_csv(self) -> Path:
        """All trials of the search, with what they drew and their value on validation."""
        return self.results / "search.csv"

    @property
    def chosen(self) -> Path:
        """What the search chose for each dataset, encoder and loss."""
        return self.results / "chosen.json"

    @property
    def pair_weights(self) -> Path:
        return self.results / "pair_weights.json"

    @property
    def report(self) -> Path:
        return self.results / "report.html"

    @property
    def live_page(self) -> Path:
        """Where the study stands while it runs (`mlcl status --watch`)."""
        return self.results / "live.html"

    @property
    def report_files(self) -> Path:
        """What is too large to stand in the report itself, beside `figures`."""
        return self.results / "report_files"

    @property
    def tensorboard(self) -> Path:
        """Learning curves as TensorBoard reads them, where the study asks for them (`report_to`)."""
        return self.results / "tensorboard"

    @property
    def complete(self) -> Path:
        return self.results / "complete.txt"

    def card(self, dataset: str) -> Path:
        """A copy of the dataset's card beside the records, so that these can be reported on without the data."""
        return self.results / dataset / "card.json"

    def cell(self, cell: CellId) -> Path:
        return self.results / str(cell)

    def record(self, cell: CellId) -> Path:
        return self.cell(cell) / "metrics.json"

    def unfinished(self, cell: CellId) -> Path:
        """Checkpoints, the mark of a running process, a new record before it takes its place. Gone when it has."""
        return self.cell(cell) / "unfinished"

    @property
    def bookkeeping(self) -> Path:
        return self.notes or self.root / BOOKKEEPING

    def request(self, cell: CellId) -> Path:
        """What is asked of a cell, for the train command."""
        return self.bookkeeping / self.study / str(cell) / "cell.json"

    @property
    def line_due(self) -> Path:
        """A file whose time says from when on a finished cell's job may say again where the study stands."""
        return self.bookkeeping / self.study / ".line_due"

    def done(self, cell: CellId) -> Path:
        """There exactly if the cell's record is current: the output that Snakemake asks for."""
        return self.request(cell).with_name("done")

    def searched(self, dataset: str, encoder: str, loss: str) -> Path:
        """A mark of the workflow: the trials of this row are made, and its cells are requested."""
        return self.bookkeeping / self.study / dataset / encoder / loss / "searched"

    def dataset_request(self, dataset: str) -> Path:
        return self.bookkeeping / self.study / dataset / "dataset.json"


def prepared(dataset: str, fingerprint: str) -> Path:
    """The prepared dataset's folder; another fingerprint is another folder, so studies can share it."""
    return PREPARED / f"{dataset}-{fingerprint[:12]}"
