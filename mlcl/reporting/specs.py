"""What papers report and claim: `paper_tables/specs/`, read and checked.

`<paper>.yaml` says what a paper's table looks like, `<paper>.csv` holds its numbers (one row a number; an empty
value is a place that whoever has the PDF fills in), `claims.yaml` its findings as testable statements.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from mlcl.errors import MlclError
from mlcl.evaluation.readouts import Readout

CLAIMS = "claims.yaml"


class SpecError(MlclError):
    """A file in `paper_tables/specs/` is wrong. The message names file and key."""


class Spec(BaseModel):
    """Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Named(Spec):
    """A dataset, encoder or loss as the paper calls it, and what it may be called in a study.

    `names`: sources of datasets, registered encoders, losses of the study; none where nothing here is the same. A
    dataset or encoder of the study counts only with these `settings`, such as the split.
    """

    title: str
    names: list[str]
    settings: dict[str, Any] = {}


class NamedEncoder(Named):
    """`dataset_settings`: what the dataset that it encodes must have been made with, such as the size of images."""

    dataset_settings: dict[str, Any] = {}


class ReportedNumber(Spec):
    """A number printed in a paper, in the units of metrics.csv (fractions, not percent)."""

    dataset: str
    encoder: str
    loss: str
    metric: str
    value: FiniteFloat | None
    spread: FiniteFloat | None
    source: str
    table: str
    note: str = ""
    """What a reader has to know of it, such as what is uncertain."""


class PaperSpec(Spec):
    """A paper's table: which datasets, encoders, losses and metrics, by the names that its CSV file uses."""

    paper: str
    source: str
    caption: str
    label: str
    percent: bool = True
    """Values in the CSV file are percentages, as papers print them."""
    datasets: Annotated[dict[str, Named], Field(min_length=1)]
    encoders: Annotated[dict[str, NamedEncoder], Field(min_length=1)]
    losses: Annotated[dict[str, Named], Field(min_length=1)]
    metrics: Annotated[list[str], Field(min_length=1)]


class DatasetFilter(Spec):
    """Which datasets of a study a claim speaks of; all conditions hold at once."""

    labels_over: int | None = None
    labels_at_most: int | None = None
    modality: Literal["image", "text", "vector"] | None = None


class Claim(Spec):
    """A statement that results can decide: `better` beats `worse` by `metric`.

    With `variant` (changed settings, as `Outline.changes_of` gives them) the comparison is made there, and with
    `against` as well it is the lead that is compared: larger under `variant` than under `against`.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    statement: str
    kind: Literal["paper", "hypothesis"] = "hypothesis"
    """Whether `source` says it, or it is an expectation of ours."""
    source: str
    metric: str
    readout: Readout | None = None
    """None: the one that the study's tables are about."""
    better: str
    worse: str
    datasets: DatasetFilter = DatasetFilter()
    variant: dict[str, Any] = {}
    against: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _compares_two_things(self) -> Claim:
        if self.better == self.worse:
            raise ValueError(f"better and worse are both '{self.better}'")
        if self.against is not None and self.against == self.variant:
            raise ValueError("variant and against are the same")
        return self


class Claims(Spec):
    claims: list[Claim]

    @model_validator(mode="after")
    def _each_id_once(self) -> Claims:
        ids = [claim.id for claim in self.claims]
        if repeated := [name for i, name in enumerate(ids) if name in ids[:i]]:
            raise ValueError(f"the id '{repeated[0]}' stands twice")
        return self


def read_claims(folder: Path) -> list[Claim]:
    """All claims; none where the file is not there. Raises SpecError."""
    file = folder / CLAIMS
    return _read_yaml(file, Claims).claims if file.exists() else []


def read_papers(folder: Path) -> dict[str, tuple[PaperSpec, list[ReportedNumber]]]:
    """stem of the file -> a paper's table and its numbers. Raises SpecError."""
    specs_by_name = {}
    for file in sorted(folder.glob("*.yaml")):
        if file.name != CLAIMS:
            spec = _read_yaml(file, PaperSpec)
            specs_by_name[file.stem] = (spec, list(_read_numbers(file.with_suffix(".csv"), spec)))
    return specs_by_name


SomeSpec = TypeVar("SomeSpec", bound=Spec)


def _read_yaml(file: Path, model: type[SomeSpec]) -> SomeSpec:
    try:
        return model.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise SpecError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        defect = error.errors()[0]
        raise SpecError(f"{file}: {'.'.join(map(str, defect['loc']))}: {defect['msg']}") from None


def _read_numbers(file: Path, spec: PaperSpec) -> Iterable[ReportedNumber]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError:
        raise SpecError(f"{file}: is not there; it holds the numbers that {spec.paper} reports") from None
    for line, row in enumerate(rows, start=2):
        given = {key: text.strip() or None for key, text in row.items() if key and text is not None}
        try:
            number = ReportedNumber.model_validate(
                {key: given.get(key) for key in ("value", "spread")}
                | {
                    key: given.get(key) or ""
                    for key in ReportedNumber.model_fields
                    if key not in ("value", "spread")
                }
            )
        except ValidationError as error:
            defect = error.errors()[0]
            raise SpecError(f"{file}: line {line}: {defect['loc'][0]}: {defect['msg']}") from None
        _require_known(file, line, number, spec)
        yield number.model_copy(update=_as_fractions(number)) if spec.percent else number


def _require_known(file: Path, line: int, number: ReportedNumber, spec: PaperSpec) -> None:
    for key, known in (("dataset", spec.datasets), ("encoder", spec.encoders), ("loss", spec.losses)):
        if (name := getattr(number, key)) not in known:
            raise SpecError(f"{file}: line {line}: {key} '{name}' does not stand in {file.stem}.yaml")
    if number.metric not in spec.metrics:
        raise SpecError(f"{file}: line {line}: metric '{number.metric}' does not stand in {file.stem}.yaml")
    if number.value is not None and not number.source:
        raise SpecError(f"{file}: line {line}: a number needs its source")


def _as_fractions(number: ReportedNumber) -> dict[str, float | None]:
    return {
        key: None if (value := getattr(number, key)) is None else value / 100 for key in ("value", "spread")
    }
