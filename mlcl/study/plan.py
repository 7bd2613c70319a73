"""What a study has, what it still needs, and why.

The plan compares the fingerprint that each cell should have with the one in its record, and writes two files for each
cell: its request, which the train command reads, and, exactly if the record is current, a mark that it is done, which
is the output that Snakemake asks for. So file times that anything else touches, the grid's order and a missing
Snakemake history play no part, and Snakemake never deletes a record: it does not know of them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import data_prep
from data_prep.planning import check as check_dataset
from mlcl import losses
from mlcl.encoders import EncoderError
from mlcl.errors import ConfigError, MlclError, OutdatedPlanError, RecordError
from mlcl.evaluation.readouts import common
from mlcl.records.cards import read_card
from mlcl.records.code import read_definitions
from mlcl.records.files import write_json, write_json_if_changed
from mlcl.records.nested import flatten
from mlcl.records.outline import (
    DatasetOutline,
    EncoderOutline,
    LossOutline,
    Outline,
    OutlineCell,
    SearchOutline,
    SkippedRow,
    Trial,
    TunedOutline,
    write_outline,
)
from mlcl.records.paths import SearchRow, StudyPaths, prepared
from mlcl.records.record import Record, find_record
from mlcl.records.search import Choice, choose
from mlcl.records.status import Counts, State, state_of
from mlcl.records.tensorboard import require_tensorboard
from mlcl.study.cells import (
    Cell,
    DatasetFacts,
    expand,
    expand_trials,
    own_learning_rate,
)
from mlcl.study.code import changed_definitions, code_of
from mlcl.study.config import DatasetEntry, Study, load_study
from mlcl.study.fingerprint import fingerprint, metrics_source, payload, reporting_source
from mlcl.study.search import number_of_trials
from mlcl.training import protocols
from mlcl.training.settings import CellSettings

DEFAULT_DATA_ROOT = Path("raw")
DATA_ROOT_VARIABLE = "MLCL_DATA_ROOT"


@dataclass(frozen=True)
class PlannedDataset:
    """A dataset of the study. Without raw files there is a `defect` in place of a fingerprint."""

    name: str
    facts: DatasetFacts
    recipe: data_prep.Recipe | None
    defect: str | None

    @property
    def folder(self) -> Path | None:
        return prepared(self.name, self.recipe.fingerprint) if self.recipe else None


@dataclass(frozen=True)
class PlannedCell:
    """A cell, what it should be made of, and what its record says it was made of."""

    cell: Cell
    payload: Mapping[str, Any] | None
    fingerprint: str | None
    record: Record | None
    results: Path
    """The folder `results/<study>`."""
    defect: str | None = None
    """What keeps the cell from being made, other than its dataset."""
    waits: bool = False
    """For the search: its settings are not chosen yet, so it has no fingerprint."""
    damage: str | None = None
    """Why there is no record though a file lies in its place."""

    @cached_property
    def state(self) -> State:
        return state_of(self.fingerprint, self.record)

    @property
    def failed(self) -> bool:
        """Has it a record that counts, and says that the cell failed?"""
        return self.state in ("current", "unknown") and self.record is not None and self.record.status != "ok"

    def why(self) -> list[str]:
        """What differs between the record and the plan, in words; empty for a current cell."""
        if self.state == "missing":
            return [f"the record is damaged ({self.damage})" if self.damage else "there is no record"]
        if self.state != "stale" or self.record is None or self.payload is None:
            return []
        changes = _differences(self.record.result, self.payload)
        if self.record.result.get("code") != self.payload["code"]:
            changes.insert(0, f"the code changed ({self._code_differences()})")
        return changes or ["made of something else"]

    def differs_in_code_alone(self) -> bool:
        """Is the record stale for no other reason than changed code?"""
        if self.state != "stale" or self.record is None or self.payload is None:
            return False
        return not _differences(self.record.result, self.payload)

    def changed_definitions(self) -> list[str] | None:
        """The definitions that differ between the record's code and the plan's; None where the record has no list."""
        assert self.record is not None
        before = read_definitions(self.results, self.record.result.get("code", ""))
        return (
            None if before is None else changed_definitions(before, code_of(self.cell.settings).definitions)
        )

    def _code_differences(self) -> str:
        changed = self.changed_definitions()
        if changed is None:
            return "the record has no list of the definitions that it was made by"
        return ", ".join(changed) or "how its definitions are put together"


@dataclass(frozen=True)
class PlannedTrial:
    """A trial of the search: a planned cell, and what it draws."""

    planned: PlannedCell
    draws: dict[str, Any]

    def outline(self) -> Trial:
        return Trial(self.planned.cell.id, self.planned.fingerprint, self.draws)


@dataclass(frozen=True, repr=False)
class Plan:
    """A study with its datasets, cells and skipped rows."""

    study: Study
    data_root: Path
    datasets: Mapping[str, PlannedDataset]
    cells: list[PlannedCell]
    skips: list[SkippedRow]
    paths: StudyPaths
    search: SearchOutline | None = None
    trials: Sequence[PlannedTrial] = ()
    chosen: Mapping[SearchRow, Choice | None] = field(default_factory=dict)
    """What the search chose; None while trials of a row are missing or stale, or where all of them failed."""

    def __repr__(self) -> str:
        return f"<{self.summary()}>"

    def _repr_html_(self) -> str:
        """For a notebook: datasets, encoders and losses, and what there is to do."""
        rows = "".join(
            f"<tr><th>{name}</th><td>{', '.join(map(escape, values))}</td></tr>"
            for name, values in (
                ("datasets", self.study.datasets),
                ("encoders", self.study.encoders),
                ("losses", self.study.losses),
                ("baselines", self.study.baselines),
                ("seeds", map(str, self.study.seeds)),
            )
        )
        return f"<p>{escape(self.study.title)}</p><table>{rows}</table><p>{escape(self.summary())}</p>"

    @cached_property
    def all_cells(self) -> list[PlannedCell]:
        """The trials of the search, then the cells of the study."""
        return [*(trial.planned for trial in self.trials), *self.cells]

    @cached_property
    def by_id(self) -> Mapping[str, PlannedCell]:
        return {str(planned.cell.id): planned for planned in self.all_cells}

    def trials_of(self, dataset: str, encoder: str, loss: str) -> list[PlannedCell]:
        """The trials that the settings of this row are chosen from."""
        return self._trials_by_row.get((dataset, encoder, loss), [])

    @cached_property
    def _trials_by_row(self) -> Mapping[SearchRow, list[PlannedCell]]:
        by_row: dict[SearchRow, list[PlannedCell]] = {}
        for trial in self.trials:
            by_row.setdefault(trial.planned.cell.id.row, []).append(trial.planned)
        return by_row

    def require_data(self) -> None:
        """Raises ConfigError for raw files and local weights that are not there."""
        if defects := self.defects():
            raise ConfigError("\n".join(f"{self.study.file}: {defect}" for defect in defects))

    def defects(self) -> list[str]:
        """What is missing on this machine, by dataset and encoder."""
        return list(self._defects)

    @cached_property
    def _defects(self) -> list[str]:
        """The workflow asks for each cell, so all cells are looked at once only."""
        data = [f"datasets.{d.name}: {d.defect}" for d in self.datasets.values() if d.defect]
        weights = {f"encoders: {p.cell.id.encoder}: {p.defect}": None for p in self.all_cells if p.defect}
        return [*data, *weights]

    @property
    def counts(self) -> Counts:
        return Counts.of((planned.state for planned in self.all_cells), sum(p.failed for p in self.cells))

    def write_outline(self) -> None:
        """Writes the study's outline, if it changed."""
        write_outline(self.outline(), self.paths.outline)

    def write(self, retry_failed: bool = False) -> None:
        """Writes the study's outline, and requests and marks of its cells and datasets, each only if it changed.

        With `retry_failed`, cells whose record says that they failed are requested once more. Raises MlclError where
        what the study reports to is not installed."""
        if self.study.report_to == "tensorboard":
            require_tensorboard(f"{self.study.file}: report_to")
        self.write_outline()
        for dataset in self.datasets.values():
            if dataset.recipe is not None:
                request = self._dataset_request(dataset)
                write_json_if_changed(self.paths.dataset_request(dataset.name), request)
            self._mend_card(dataset)
        for planned in self.all_cells:
            if planned.fingerprint is not None:
                self._write_request(planned, retry_failed)
            elif planned.waits:
                self.paths.done(planned.cell.id).unlink(missing_ok=True)
                self.paths.searched(*planned.cell.id.row).unlink(missing_ok=True)

    def write_chosen(self, dataset: str, encoder: str, loss: str) -> Choice:
        """Requests the cells of a row whose trials are made; returns the choice. Raises MlclError if there is none."""
        row = (dataset, encoder, loss)
        cells = [planned for planned in self.cells if planned.cell.id.row == row]
        choice = self.chosen.get(row)
        if choice is None:
            failed = sum(planned.failed for planned in self.trials_of(*row))
            raise MlclError(
                f"{self.study.file}: search: nothing can be chosen for {'/'.join(row)}: {failed} of "
                f"{len(self.trials_of(*row))} trials failed, and the others have no current record"
            )
        self.write_outline()
        for planned in cells:
            self._write_request(planned, retry_failed=False)
        return choice

    def _mend_card(self, dataset: PlannedDataset) -> None:
        """A copy of the dataset's card beside the records that is damaged is copied again, if the dataset is here."""
        copy = self.paths.card(dataset.name)
        try:
            read_card(copy)
        except RecordError:
            if dataset.folder is not None and (card := read_card(dataset.folder / "card.json")) is not None:
                write_json(copy, card)

    def rehearsal(self, folder: Path) -> Plan:
        """The same plan, which writes into `folder`, an empty one: for a dry run, which is to change nothing."""
        paths = StudyPaths(self.study.name, notes=folder)
        if self.paths.outline.exists():
            shutil.copy2(self.paths.outline, paths.outline)
        return replace(self, paths=paths)

    def request(self, planned: PlannedCell, retry: bool = False) -> dict[str, Any]:
        """All that the train command needs to make the cell."""
        folder = self.datasets[planned.cell.id.dataset].folder
        replaced = planned.record
        return {
            "study": self.study.name,
            "cell": str(planned.cell.id),
            "settings": planned.cell.settings.model_dump(mode="json"),
            "fingerprint": planned.fingerprint,
            "made_of": planned.payload,
            "prepared": str(folder),
            "attempt": 1 + replaced.attempt if retry and replaced is not None else 1,
        } | ({} if self.study.report_to == "none" else {"report_to": self.study.report_to})

    def _write_request(self, planned: PlannedCell, retry_failed: bool) -> None:
        request, done = self.paths.request(planned.cell.id), self.paths.done(planned.cell.id)
        retry = retry_failed and planned.failed
        asked = _times_asked(request)
        if planned.state in ("stale", "missing") or retry:
            # Snakemake compares contents where it can, and does not ask for a missing mark as long as what follows from
            # it is there: the request must differ whenever a record is to be made.
            asked += 1
        write_json_if_changed(request, self.request(planned, retry) | {"asked": asked})
        if planned.state != "current" or retry:
            done.unlink(missing_ok=True)
            return
        # Snakemake takes an output for out of date if an input is newer, and distrusts times in the future.
        made = min(self.paths.record(planned.cell.id).stat().st_mtime_ns, time.time_ns())
        if request.stat().st_mtime_ns > made:
            os.utime(request, ns=(made, made))
        if not done.exists() or done.stat().st_mtime_ns != made:
            done.touch()
            os.utime(done, ns=(made, made))

    def _dataset_request(self, dataset: PlannedDataset) -> dict[str, Any]:
        entry = self.study.datasets[dataset.name]
        return {
            "name": dataset.name,
            "source": entry.source,
            "settings": entry.settings,
            "accept_local": entry.accept_local,
            "data_root": str(self.data_root),
            "fingerprint": dataset.recipe.fingerprint if dataset.recipe else None,
            "prepared": str(dataset.folder),
        }

    def outline(self) -> Outline:
        """What the study asks for, as far as its results need it."""
        study, titles = self.study, self._titles()
        return Outline(
            study=study.name,
            file=str(study.file),
            title=study.title,
            description=study.description,
            seeds=study.seeds,
            metrics=study.table.metrics,
            split=study.table.split,
            datasets={
                name: DatasetOutline(
                    name,
                    titles[name],
                    planned.facts.modality,
                    study.datasets[name].fraction,
                    planned.facts.settings,
                    study.datasets[name].source,
                )
                for name, planned in self.datasets.items()
            },
            encoders={
                name: EncoderOutline(
                    name,
                    entry.modality,
                    entry.settings,
                    self._own_learning_rate(name) | entry.training,
                    entry.name,
                )
                for name, entry in study.encoders.items()
            },
            losses={name: self._loss_outline(name) for name in study.losses},
            baselines=list(study.baselines),
            variants={
                "base": {},
                **{name: entry.model_dump(exclude_defaults=True) for name, entry in study.variants.items()},
            },
            training=self._training_by_protocol(),
            readouts=list(study.readouts),
            readout=study.table.readout or self._common_readout(),
            linear_evaluation=study.linear_evaluation.model_dump(),
            compute=study.compute.model_dump(),
            cells=[
                OutlineCell(planned.cell.id, planned.fingerprint, _selection(planned.cell.settings))
                for planned in self.cells
            ],
            skipped=self.skips,
            search=self.search,
            trials=[trial.outline() for trial in self.trials],
            metrics_source=metrics_source(),
            reporting_source=reporting_source(),
            tuned=None if study.tuned is None else TunedOutline(study.tuned.by, study.tuned.rows),
        )

    def _titles(self) -> dict[str, str]:
        """The titles of the datasets; several of one source have the same, and get their names besides."""
        titles = {name: planned.facts.title for name, planned in self.datasets.items()}
        counts = Counter(titles.values())
        return {name: title if counts[title] == 1 else f"{title} ({name})" for name, title in titles.items()}

    def _common_readout(self) -> str:
        """The readout by which all losses of the study can be compared."""
        trained = [p.cell.settings.readouts for p in self.cells if p.cell.settings.loss is not None]
        return common(trained, fallback=self.study.readouts)

    def _own_learning_rate(self, encoder: str) -> dict[str, Any]:
        """What the encoder's declaration sets, if that is so for all cells and the study sets no learning rate."""
        own = [
            own_learning_rate(settings.encoder, protocols.load(settings.protocol))
            for settings in (
                planned.cell.settings for planned in self.cells if planned.cell.id.encoder == encoder
            )
            if settings.encoder is not None and settings.training is not None
        ]
        same = bool(own) and all(one == own[0] for one in own)
        return own[0] if same and "learning_rate" not in self.study.training else {}

    def _training_by_protocol(self) -> dict[str, dict[str, Any]]:
        """protocol -> the training settings of the study as it applies them, but for those of an encoder or loss."""
        used = dict.fromkeys(
            planned.cell.settings.protocol
            for planned in self.cells
            if planned.cell.settings.training is not None
        )
        return {
            name: settings_class.model_validate(
                {
                    key: value
                    for key, value in self.study.training.items()
                    if key in settings_class.model_fields
                }
            ).model_dump(mode="json")
            for name, settings_class in ((name, protocols.load(name).Settings) for name in used)
        }

    def _settings_of(self, loss: str) -> Iterator[CellSettings]:
        return (planned.cell.settings for planned in self.cells if planned.cell.id.loss == loss)

    def _loss_outline(self, name: str) -> LossOutline:
        entry = self.study.losses[name]
        info = losses.describe(entry.name, file=entry.file)
        return LossOutline(
            name=name,
            title=info.title,
            paper=info.paper,
            equation=info.equation,
            summary=info.summary,
            inputs=info.inputs,
            protocol=next((settings.protocol for settings in self._settings_of(name)), None),
            hyperparameters=losses.validate(entry.name, entry.hyperparameters, file=entry.file),
            training=entry.training,
            loss=entry.name,
            file=str(entry.file) if entry.file else None,
        )

    def summary(self) -> str:
        """One line on what there is to do, and the reasons, most frequent first; then one for each damaged record."""
        parts = [str(self.counts)]
        if self.trials:
            parts.append(f"{len(self.trials)} of these are trials of the search")
        if to_make := [planned for planned in self.all_cells if planned.state in ("stale", "missing")]:
            reasons = Counter(
                "damaged records" if planned.damage else "; ".join(planned.why()) for planned in to_make
            )
            listed = [f"{_shortened(reason)} ({count})" for reason, count in reasons.most_common(3)]
            parts.append(f"{len(to_make)} to make: {', '.join(listed)}{', ...' if len(reasons) > 3 else ''}")
        if waiting := sum(planned.waits for planned in to_make):
            parts.append(f"{waiting} of these wait for the search")
        if waiting := sum(planned.fingerprint is None and not planned.waits for planned in to_make):
            parts.append(f"{waiting} of these wait for raw data or weights")
        if self.skips:
            parts.append(f"{len(self.skips)} rows skipped")
        damaged = [f"\n  damaged: {planned.damage}" for planned in self.cells if planned.damage]
        return f"study {self.study.name}: {'; '.join(parts)}{''.join(damaged)}"


def make_plan(file: Path, data_root: Path | None = None, as_before: bool = False) -> Plan:
    """Reads the study and looks at what exists. Writes nothing.

    `data_root` wins over the environment's MLCL_DATA_ROOT, that over the study's `data_root`, that over `raw/`. With
    `as_before`, the folder that the study was run with last wins over these, if it is still there. Raises ConfigError;
    raw files that are absent are no error yet (`Plan.require_data`).
    """
    study = load_study(file)
    from_environment = os.environ.get(DATA_ROOT_VARIABLE)
    last = _last_data_root(study) if as_before else None
    root = data_root or last or (Path(from_environment) if from_environment else study.data_root)
    root = root or DEFAULT_DATA_ROOT
    datasets = {name: _plan_dataset(study, name, entry, root) for name, entry in study.datasets.items()}
    facts, paths = {name: planned.facts for name, planned in datasets.items()}, StudyPaths(study.name)
    trials = [
        PlannedTrial(_plan_cell(trial.cell, datasets[trial.cell.id.dataset], paths), trial.draws)
        for trial in expand_trials(study, facts)
    ]
    search = _search_outline(study, facts)
    chosen = _choose(search, trials)
    settings = {row: choice.trial.settings for row, choice in chosen.items() if choice is not None}
    cells, skips = expand(study, facts, settings)
    planned = [_plan_cell(cell, datasets[cell.id.dataset], paths) for cell in cells]
    waiting = {row for row, choice in chosen.items() if choice is None}
    planned = [
        replace(one, payload=None, fingerprint=None, waits=True) if one.cell.id.row in waiting else one
        for one in planned
    ]
    return Plan(study, root, datasets, planned, skips, paths, search, trials, chosen)


def _search_outline(study: Study, facts: Mapping[str, DatasetFacts]) -> SearchOutline | None:
    """The study's search, with the readout by which its losses can be compared."""
    search = study.search
    if search is None:
        return None
    losses_alone = study.model_copy(update={"baselines": []})
    trained = [cell.settings.readouts for cell in expand(losses_alone, facts, {})[0]]
    return SearchOutline(
        method=search.method,
        trials=number_of_trials(search),
        seed=search.seed,
        metric=search.metric,
        readout=search.readout or study.table.readout or common(trained, fallback=study.readouts),
        space=search.space,
        losses=search.losses,
    )


def _choose(search: SearchOutline | None, trials: Sequence[PlannedTrial]) -> dict[SearchRow, Choice | None]:
    """row -> its choice; None while trials are missing or stale, or where all of them failed."""
    by_row: dict[SearchRow, list[PlannedTrial]] = {}
    for trial in trials:
        by_row.setdefault(trial.planned.cell.id.row, []).append(trial)
    chosen: dict[SearchRow, Choice | None] = {}
    for row, own in by_row.items():
        made = [
            (one.outline(), one.planned.record)
            for one in own
            if one.planned.state == "current" and one.planned.record is not None
        ]
        chosen[row] = choose(search, made) if search is not None and len(made) == len(own) else None
    return chosen


def _last_data_root(study: Study) -> Path | None:
    """Where the raw files lay when the study was run last on this machine; None if it was not, or that is gone."""
    for name in study.datasets:
        try:
            request = json.loads(StudyPaths(study.name).dataset_request(name).read_text(encoding="utf-8"))
            root = Path(request["data_root"])
            return root if root.is_dir() else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _plan_dataset(study: Study, name: str, entry: DatasetEntry, data_root: Path) -> PlannedDataset:
    try:
        checked = check_dataset(entry.source, entry.settings)
    except data_prep.DataError as error:
        raise ConfigError(f"{study.file}: datasets.{name}: {error}") from None
    facts = DatasetFacts(checked.modality, dict(checked.settings), checked.title or name)
    try:
        recipe = data_prep.plan(entry.source, entry.settings, data_root, entry.accept_local)
    except data_prep.DataError as error:
        return PlannedDataset(name, facts, None, str(error))
    return PlannedDataset(name, facts, recipe, None)


def _plan_cell(cell: Cell, dataset: PlannedDataset, paths: StudyPaths) -> PlannedCell:
    record, damage = find_record(paths.record(cell.id), cell.id)
    if dataset.recipe is None:
        return PlannedCell(cell, None, None, record, paths.results, damage=damage)
    try:
        made_of = payload(cell, dataset.recipe.fingerprint)
    except EncoderError as error:
        return PlannedCell(cell, None, None, record, paths.results, str(error), damage=damage)
    return PlannedCell(cell, made_of, fingerprint(made_of), record, paths.results, damage=damage)


def _shortened(reason: str) -> str:
    return reason if len(reason) <= 120 else f"{reason[:117]}..."


def _selection(settings: CellSettings) -> str | None:
    return protocols.selection(settings.training) if settings.training else None


def _differences(made_of: Mapping[str, Any], planned: Mapping[str, Any]) -> list[str]:
    """In words: what a record was made of against what the plan asks for, code aside."""
    changes = []
    if made_of.get("dataset_fingerprint") != planned["dataset_fingerprint"]:
        changes.append("the dataset changed")
    if made_of.get("weights") != planned["weights"]:
        changes.append("the encoder's weights changed")
    before, after = flatten(made_of.get("settings", {})), flatten(planned["settings"])
    changes.extend(
        f"{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
        for key in sorted(_changed_keys(before, after))
    )
    return changes


def _changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _times_asked(request: Path) -> int:
    """How many times a cell was asked for; 0 where it never was, or the request cannot be read."""
    try:
        return int(json.loads(request.read_text(encoding="utf-8"))["asked"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def read_request(file: Path) -> dict[str, Any]:
    """A cell's request as the plan wrote it. Raises MlclError if it is none, or made by another version of the code."""
    try:
        request = json.loads(file.read_text(encoding="utf-8"))
        planned = request["made_of"]["code"]
        settings = CellSettings.model_validate(request["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise MlclError(f"{file}: is no request of a cell; plan the study again") from None
    if planned != code_of(settings).digest:
        raise OutdatedPlanError(f"{file}: the code changed after the study was planned; start the run again")
    return request
