"""What a study asks for, as far as its results need it: `outline.json`, written by the plan and read by all others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

from mlcl.digests import SEAL, canonical_json, is_sealed, sealed
from mlcl.errors import MlclError
from mlcl.records.files import write_json_if_changed
from mlcl.records.format import FORMAT, require_format
from mlcl.records.paths import RESULTS, CellId, StudyPaths

NO_ENCODER = "none"
CellName = Annotated[
    CellId,
    BeforeValidator(lambda value: CellId.parse(value) if isinstance(value, str) else value),
    PlainSerializer(str),
]
"""A CellId that stands in the file as its path."""


@dataclass(frozen=True)
class DatasetOutline:
    name: str
    title: str
    modality: str
    fraction: float
    settings: dict[str, Any]
    source: str = ""
    """The source it is made of; empty: its name."""


@dataclass(frozen=True)
class EncoderOutline:
    name: str
    modality: str
    settings: dict[str, Any]
    training: dict[str, Any]
    encoder: str = ""
    """The name it is registered under; empty: `name`, the one in the study."""


@dataclass(frozen=True)
class LossOutline:
    name: str
    title: str
    paper: str
    equation: str
    summary: str
    inputs: str
    protocol: str | None
    """None where the study skips all its rows."""
    hyperparameters: dict[str, Any]
    training: dict[str, Any]
    loss: str
    """The name it is registered under; `name` is the one in the study."""
    file: str | None
    """The path of a loss that comes from a file."""


@dataclass(frozen=True)
class OutlineCell:
    """A cell that the study asks for. `fingerprint` is None where raw data is absent: staleness is unknown."""

    id: CellName
    fingerprint: str | None
    selection: str | None = None
    """The rule that chose its weights; None where nothing is trained."""


@dataclass(frozen=True)
class Trial:
    """A trial of the search: a cell with the settings that it drew, by name."""

    id: CellName
    fingerprint: str | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class SearchOutline:
    """How settings are searched for: the same for all losses, but for the parameters in `losses`."""

    method: str
    trials: int
    seed: int
    metric: str
    readout: str
    space: dict[str, Any]
    losses: dict[str, dict[str, Any]]
    """loss -> parameters that it has on top"""


@dataclass(frozen=True)
class TunedOutline:
    """Settings of single rows that an earlier search chose."""

    by: str
    """How they were found, in words, or the folder of that search's kept results."""
    rows: dict[str, dict[str, Any]]
    """dataset/encoder/loss -> settings"""


@dataclass(frozen=True)
class SkippedRow:
    """All seeds of a row that the study leaves out on purpose."""

    dataset: str
    encoder: str
    loss: str
    variant: str
    reason: str


@dataclass(frozen=True)
class Outline:
    """A study as far as its results need it; everything in the order of the study file."""

    study: str
    file: str
    title: str
    description: str
    seeds: list[int]
    metrics: list[str]
    split: str
    datasets: dict[str, DatasetOutline]
    encoders: dict[str, EncoderOutline]
    losses: dict[str, LossOutline]
    baselines: list[str]
    variants: dict[str, dict[str, Any]]
    training: dict[str, dict[str, Any]]
    """protocol -> its settings"""
    readouts: list[str]
    """How each trained encoder is read, where it can be."""
    readout: str
    """The one that tables, figures and claims are about, or `own` (`mlcl.evaluation.readouts`)."""
    linear_evaluation: dict[str, Any]
    compute: dict[str, Any]
    cells: list[OutlineCell]
    skipped: list[SkippedRow]
    search: SearchOutline | None
    trials: list[Trial]
    metrics_source: str
    """The digest of the code that computes metrics."""
    reporting_source: str
    """The digest of the code that makes tables, figures and report: a change makes them anew."""
    tuned: TunedOutline | None = None

    @property
    def digest(self) -> str:
        """Of all but the digests of code: what collected results were collected for."""
        content = _adapter().dump_python(self, mode="json", exclude={"metrics_source", "reporting_source"})
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]

    @property
    def all_cells(self) -> list[OutlineCell | Trial]:
        """The trials of the search, then the cells of the study."""
        return [*self.trials, *self.cells]

    @property
    def row_names(self) -> list[str]:
        """Losses, then baselines: the order of every table and figure."""
        return [*self.losses, *self.baselines]

    @property
    def encoders_with_none(self) -> list[str]:
        return [*self.encoders, NO_ENCODER]

    def columns(self) -> list[tuple[str, str]]:
        """The (dataset, encoder) pairs of the grid; `none` only for a dataset that has no encoder at all."""
        return list(self._columns)

    @cached_property
    def _columns(self) -> list[tuple[str, str]]:
        pairs = {(cell.id.dataset, cell.id.encoder) for cell in self.cells}
        pairs |= {(row.dataset, row.encoder) for row in self.skipped}
        columns = []
        for dataset in self.datasets:
            encoders = [encoder for encoder in self.encoders if (dataset, encoder) in pairs]
            columns += [(dataset, encoder) for encoder in encoders or [NO_ENCODER]]
        return columns

    def column_title(self, dataset: str, encoder: str) -> str:
        """A dataset's name, with the encoder where the study has several for it."""
        several = sum(d == dataset for d, _ in self._columns) > 1
        title = self.datasets[dataset].title
        return f"{title}, {encoder}" if several and encoder != NO_ENCODER else title

    def training_of(self, loss: str, encoder: str) -> dict[str, Any]:
        """How a loss is trained with an encoder: its protocol's settings, then what the two change of them."""
        settings = self.training.get(self.losses[loss].protocol or "", {})
        of_encoder = self.encoders[encoder].training if encoder in self.encoders else {}
        applicable = {key: value for key, value in of_encoder.items() if key in settings}
        return settings | applicable | self.losses[loss].training

    def changes_of(self, variant: str) -> dict[str, dict[str, Any]]:
        """What a variant changes, section -> setting -> value, without what only goes along with fewer training rows:
        validation rows cut alike (`val_fraction`), and as many steps as with all rows."""
        changes = self.variants[variant]
        if "fraction" not in changes.get("dataset", {}):
            return changes
        along = (("dataset", "val_fraction"), ("training", "steps_per_epoch"))
        kept = {
            section: {
                key: value
                for key, value in part.items()
                if (section, key) not in along or (key == "steps_per_epoch" and value != "all_rows")
            }
            for section, part in changes.items()
        }
        return {section: part for section, part in kept.items() if part}

    def title_of(self, name: str) -> str:
        """The printed name of a loss or baseline: the one that studies and commands know it by."""
        return name.replace("_", " ") if name in self.baselines else name


class OpenStudy(NamedTuple):
    """A study whose results can be read: what it asks for, and where its files lie."""

    outline: Outline
    paths: StudyPaths


@cache
def _adapter() -> TypeAdapter[Outline]:
    return TypeAdapter(Outline)


def write_outline(outline: Outline, file: Path) -> None:
    """Writes the file unless it says the same already: its time tells when the study changed."""
    write_json_if_changed(file, sealed({"format": FORMAT, **_adapter().dump_python(outline, mode="json")}))


def read_outline(file: Path) -> Outline:
    """Raises MlclError if the file is not there, or is no outline of this version's format."""
    plan_again = "plan the study again (mlcl plan)"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        require_format(content, file, plan_again)
        if not is_sealed(content):
            raise ValueError("it was changed after it was written")
        return _adapter().validate_python(
            {key: value for key, value in content.items() if key not in ("format", SEAL)}
        )
    except FileNotFoundError:
        raise MlclError(
            f"{file}: is not there; plan the study first ('mlcl prepare' or a run writes its outline)"
        ) from None
    except ValidationError as error:
        defect = error.errors()[0]
        where = ".".join(map(str, defect["loc"]))
        raise MlclError(
            f"{file}: is no outline of a study ({where}: {defect['msg']}); {plan_again}"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise MlclError(f"{file}: is no outline of a study ({error!r}); {plan_again}") from None


def open_study(study: str | Path) -> OpenStudy:
    """Opens a study by its name, from `results/<name>` here, or by its results folder, wherever that lies.

    Raises MlclError if there is no outline there, or it cannot be read.
    """
    named = StudyPaths(str(study))
    is_name = "/" not in str(study) and str(study) not in (".", "..")
    if is_name and (named.outline.exists() or not Path(study, named.outline.name).exists()):
        return OpenStudy(read_outline(named.outline), named)
    folder = Path(study)
    outline = read_outline(folder / named.outline.name)
    here = StudyPaths(outline.study)
    if folder.resolve() == (Path(RESULTS) / outline.study).resolve():
        return OpenStudy(outline, here)
    return OpenStudy(outline, StudyPaths(outline.study, folder=folder))
