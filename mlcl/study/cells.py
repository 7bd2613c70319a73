"""The grid: a study becomes its cells. A pure function of the study and of what is known by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from data_prep.source import Modality
from mlcl import encoders, losses
from mlcl.errors import ConfigError
from mlcl.evaluation.readouts import READOUTS
from mlcl.records.outline import SkippedRow
from mlcl.records.paths import TRIAL, CellId, SearchRow
from mlcl.study.config import (
    Baseline,
    EncoderEntry,
    LossEntry,
    Study,
    TunedSettings,
    VariantEntry,
)
from mlcl.study.search import SearchSettings, draw
from mlcl.suggest import closest
from mlcl.training import protocols
from mlcl.training.settings import (
    MODALITY_OF,
    OFF,
    CellSettings,
    DatasetPart,
    EncoderPart,
    LinearEvaluationSettings,
    LossPart,
    Protocol,
    SubsetSettings,
    applicable,
    for_other_modalities,
    switched_on,
)

SomeSettings = TypeVar("SomeSettings", bound=BaseModel)
NO_HEAD = "{} trains no head, and head is the study's only readout"


@dataclass(frozen=True)
class Cell:
    """One (dataset, encoder, loss, variant, seed) of a study with all its settings."""

    id: CellId
    settings: CellSettings


@dataclass(frozen=True)
class DatasetFacts:
    """What planning knows of a dataset before it is prepared."""

    modality: Modality
    settings: dict[str, Any]
    title: str

    @property
    def may_have_unknown_labels(self) -> bool:
        return self.settings.get("on_missing_label") == "ignore"


@dataclass(frozen=True)
class TrialCell:
    """A cell of the search, and what it draws."""

    cell: Cell
    draws: dict[str, Any]


def expand_trials(study: Study, datasets: Mapping[str, DatasetFacts]) -> list[TrialCell]:
    """The trials of the study's search, in the order of its losses; none without a search. Raises as `expand` does."""
    if study.search is None:
        return []
    _check_encoders(study, datasets)
    _check_training(study)
    _check_unknown_labels(study, datasets)
    return list(_Grid(study, datasets, {}).trials(study.search))


def expand(
    study: Study, datasets: Mapping[str, DatasetFacts], chosen: Mapping[SearchRow, dict[str, Any]]
) -> tuple[list[Cell], list[SkippedRow]]:
    """All cells of the study in the order in which it lists them, and the rows it leaves out.

    `chosen`: what the search chose for each row. Variants change it, as they do what `tuned` gives a row. Raises
    ConfigError where a name is unknown, a setting wrong, or a listed pair does not fit.
    """
    _check_encoders(study, datasets)
    _check_training(study)
    _check_unknown_labels(study, datasets)
    grid = _Grid(study, datasets, {**_tuned(study), **chosen})
    if study.tuned is not None:
        grid.check_tuned(study.tuned)
    rows = list(grid.rows())
    cells = [row.for_seed(seed) for row in rows if isinstance(row, _Row) for seed in study.seeds]
    return cells, [row for row in rows if isinstance(row, SkippedRow)]


@dataclass(frozen=True)
class _Row:
    """A cell but for its seed."""

    dataset: str
    encoder: str
    loss: str
    variant: str
    settings: dict[str, Any]

    def for_seed(self, seed: int) -> Cell:
        cell_id = CellId(self.dataset, self.encoder, self.loss, self.variant, seed)
        return Cell(cell_id, CellSettings(seed=seed, **self.settings))


@dataclass(frozen=True)
class _Grid:
    study: Study
    datasets: Mapping[str, DatasetFacts]
    chosen: Mapping[SearchRow, dict[str, Any]]

    def rows(self) -> Iterator[_Row | SkippedRow]:
        variants = {"base": VariantEntry(), **self.study.variants}
        for dataset in self.study.datasets:
            for baseline in self.study.baselines:
                if baseline != "random_encoder":
                    yield self._baseline(dataset, None, baseline)
            for encoder in self._encoders_for(dataset):
                if "random_encoder" in self.study.baselines:
                    yield self._baseline(dataset, encoder, "random_encoder")
                for loss in self.study.losses:
                    chosen = self._as_changes(loss, self.chosen.get((dataset, encoder, loss), {}))
                    for variant, changes in variants.items():
                        yield self._trained(dataset, encoder, loss, variant, _over(chosen, changes))

    def trials(self, search: SearchSettings) -> Iterator[TrialCell]:
        """For each row of the grid one cell a draw, with the search's seed."""
        self._check_space(search)
        for dataset in self.study.datasets:
            for encoder in self._encoders_for(dataset):
                for loss in self.study.losses:
                    for number, draws in enumerate(draw(search, loss)):
                        changes = self._as_changes(loss, draws)
                        row = self._trained(dataset, encoder, loss, f"{TRIAL}{number:02d}", changes)
                        if isinstance(row, _Row):
                            yield TrialCell(row.for_seed(search.seed), self._used(loss, draws))

    def _as_changes(self, loss: str, draws: Mapping[str, Any]) -> VariantEntry:
        """What a loss takes of the draws: settings that its protocol knows, and its own hyperparameters."""
        known = protocols.load(_protocol_of(self.study, loss)).Settings.model_fields
        hyperparameters = _described(self.study, loss, self.study.losses[loss]).hyperparameters
        training = {key: value for key, value in draws.items() if key in known}
        of_loss = {key: value for key, value in draws.items() if key not in known and key in hyperparameters}
        return VariantEntry(training=training, loss=of_loss)

    def _used(self, loss: str, draws: Mapping[str, Any]) -> dict[str, Any]:
        changes = self._as_changes(loss, draws)
        return {key: value for key, value in draws.items() if key in changes.training or key in changes.loss}

    def _check_space(self, search: SearchSettings) -> None:
        """Each setting of the space must mean something to a loss, and those of a single loss to that one."""
        for key in search.space:
            if not any(self._used(loss, {key: None}) for loss in self.study.losses):
                raise ConfigError(
                    f"{self.study.file}: search.space.{key}: is no setting of training and no hyperparameter of a loss "
                    "of this study"
                )
        for loss, space in search.losses.items():
            for key in space:
                if not self._used(loss, {key: None}):
                    raise ConfigError(
                        f"{self.study.file}: search.losses.{loss}.{key}: {loss} has no such setting"
                    )

    def check_tuned(self, tuned: TunedSettings) -> None:
        """Each row must be one of the grid, and each of its settings one that its loss has."""
        for name, settings in tuned.rows.items():
            where = f"{self.study.file}: tuned.rows.{name}"
            _, _, loss = _tuned_row(name, where)
            grid = [
                f"{d}/{e}/{one}"
                for d in self.study.datasets
                for e in self._encoders_for(d)
                for one in self.study.losses
            ]
            if name not in grid:
                raise ConfigError(f"{where}: is no dataset/encoder/loss of this study; {closest(name, grid)}")
            if unknown := sorted(settings.keys() - self._used(loss, settings).keys()):
                raise ConfigError(f"{where}.{unknown[0]}: {loss} has no such setting")
            changes = self._as_changes(loss, settings)
            protocol = protocols.load(_protocol_of(self.study, loss))
            _checked(protocol.Settings, changes.training, where)
            entry = self.study.losses[loss]
            try:
                losses.validate(entry.name, changes.loss, file=entry.file)
            except losses.LossError as error:
                raise ConfigError(f"{where}: {error}") from None

    def _encoders_for(self, dataset: str) -> list[str]:
        modality = self.datasets[dataset].modality
        return [name for name, entry in self.study.encoders.items() if entry.modality == modality]

    def _baseline(self, dataset: str, encoder: str | None, baseline: Baseline) -> _Row | SkippedRow:
        settings: dict[str, Any] = {
            "protocol": baseline,
            "dataset": self._dataset_part(dataset, {}),
            "compute": self.study.compute,
        }
        if encoder is not None:
            settings |= {
                "encoder": _encoder_part(self.study, encoder, {}),
                **self._readouts(has_head=False, changes={}, where=f"{self.study.file}: linear_evaluation"),
                "keep_embeddings": self.study.keep_embeddings,
                "keep_model": self.study.keep_models,
            }
            if not settings["readouts"]:
                return SkippedRow(dataset, encoder, baseline, "base", NO_HEAD.format(baseline))
        return _Row(dataset, encoder or "none", baseline, "base", settings)

    def _trained(
        self, dataset: str, encoder: str, loss: str, variant: str, changes: VariantEntry
    ) -> _Row | SkippedRow:
        study, where = self.study, f"{self.study.file}: variants.{variant}"
        entry = study.losses[loss]
        coordinates = {"dataset": dataset, "encoder": encoder, "loss": loss, "variant": variant}
        info = _described(study, loss, entry)
        modality = self.datasets[dataset].modality
        if info.modalities is not None and modality not in info.modalities:
            return SkippedRow(**coordinates, reason=f"{loss} is not made for the modality '{modality}'")
        if foreign := sorted(set(changes.loss) - set(info.hyperparameters)):
            return SkippedRow(**coordinates, reason=f"{loss} has no {', '.join(foreign)}")
        name = _protocol_of(study, loss)
        protocol = protocols.load(name)
        if foreign := _foreign(changes.training, protocol, study):
            return SkippedRow(**coordinates, reason=f"{name} has no {', '.join(foreign)}")
        if foreign := for_other_modalities(changes.training, modality):
            return SkippedRow(
                **coordinates, reason=f"{', '.join(foreign)}: not for the modality '{modality}'"
            )
        encoder_part = _encoder_part(study, encoder, changes.encoder)
        combined = (
            own_learning_rate(encoder_part, protocol)
            | _known(study.training, protocol)
            | _known(study.encoders[encoder].training, protocol)
            | entry.training
            | changes.training
        )
        training = _checked(protocol.Settings, combined, f"{where}.training").model_dump(mode="json")
        frozen = bool(encoder_part.settings["freeze"])
        _check_together(study, protocol, info, encoder, frozen, training)
        settings = {
            "protocol": name,
            "dataset": self._dataset_part(dataset, changes.dataset),
            "encoder": encoder_part,
            "loss": _loss_part(study, loss, entry, changes.loss),
            "training": applicable(training, modality, frozen),
            "compute": study.compute,
            "keep_embeddings": study.keep_embeddings,
            "keep_model": study.keep_models,
        }
        has_head = protocols.has_head(protocol, training)
        settings |= self._readouts(has_head, changes.linear_evaluation, f"{where}.linear_evaluation")
        if not settings["readouts"]:
            return SkippedRow(**coordinates, reason=NO_HEAD.format(loss))
        return _Row(**coordinates, settings=settings)

    def _readouts(self, has_head: bool, changes: dict[str, Any], where: str) -> dict[str, Any]:
        """The readouts that a cell has, in one order whatever the study's, and the settings of these alone."""
        study = self.study
        readouts = [r for r in READOUTS if r in study.readouts and (has_head or r != "head")]
        settings: dict[str, Any] = {"readouts": readouts}
        if "linear" in readouts:
            evaluation = study.linear_evaluation.model_dump() | changes
            settings["linear_evaluation"] = _checked(LinearEvaluationSettings, evaluation, where)
        elif changes:
            raise ConfigError(f"{where}: linear is not among the study's readouts; a variant cannot set this")
        if "knn" in readouts:
            settings["knn_evaluation"] = study.knn_evaluation
        return settings

    def _dataset_part(self, dataset: str, changes: dict[str, Any]) -> DatasetPart:
        entry = self.study.datasets[dataset]
        subset = {key: getattr(entry, key) for key in SubsetSettings.model_fields} | changes
        where = f"{self.study.file}: variants: dataset"
        return DatasetPart(
            source=entry.source,
            settings=self.datasets[dataset].settings,
            subset=_checked(SubsetSettings, subset, where),
        )


def _tuned(study: Study) -> dict[SearchRow, dict[str, Any]]:
    rows = study.tuned.rows if study.tuned is not None else {}
    return {_tuned_row(name, f"{study.file}: tuned.rows.{name}"): settings for name, settings in rows.items()}


def _tuned_row(name: str, where: str) -> SearchRow:
    try:
        dataset, encoder, loss = name.split("/")
    except ValueError:
        raise ConfigError(f"{where}: a row is named dataset/encoder/loss") from None
    return dataset, encoder, loss


def _over(chosen: VariantEntry, changes: VariantEntry) -> VariantEntry:
    """The changes of a variant, on top of what the search chose."""
    return changes.model_copy(
        update={"training": chosen.training | changes.training, "loss": chosen.loss | changes.loss}
    )


def _check_encoders(study: Study, datasets: Mapping[str, DatasetFacts]) -> None:
    for name, entry in study.encoders.items():
        where = f"{study.file}: encoders.{entry.modality}.{name}"
        if entry.name not in encoders.names():
            raise ConfigError(
                f"{where}: unknown encoder '{entry.name}'; {closest(entry.name, encoders.names())}"
            )
        modality = encoders.describe(entry.name).modality
        if modality != entry.modality:
            raise ConfigError(
                f"{where}: '{entry.name}' encodes the modality '{modality}'; list it under encoders.{modality}"
            )
    served = {entry.modality for entry in study.encoders.values()}
    for name, facts in datasets.items():
        if facts.modality not in served:
            raise ConfigError(
                f"{study.file}: datasets.{name}: has the modality '{facts.modality}', "
                f"and no encoder is listed under encoders.{facts.modality}"
            )


def _check_training(study: Study) -> None:
    """Each key of training settings must mean something to a protocol of the study, and have a value it takes.

    A study may mix protocols; a key is checked against those that know it.
    """
    used = _protocols_used(study)
    by_place = {"training": study.training} | {
        f"encoders.{entry.modality}.{name}.training": entry.training for name, entry in study.encoders.items()
    }
    for where, settings in by_place.items():
        for protocol in used:
            _checked(protocol.Settings, _known(settings, protocol), f"{study.file}: {where}")
        known = {key for protocol in used for key in protocol.Settings.model_fields}
        if used and (unknown := sorted(settings.keys() - known)):
            raise ConfigError(
                f"{study.file}: {where}.{unknown[0]}: unknown key; {closest(unknown[0], known)}"
            )
    for loss, entry in study.losses.items():
        where = f"{study.file}: losses.{loss}.training"
        _checked(protocols.load(_protocol_of(study, loss)).Settings, entry.training, where)
    _check_modalities(study)


def _check_modalities(study: Study) -> None:
    """A modality-specific setting must apply to the encoder it is by_place for, or, at study level, to at least one."""
    modalities = {entry.modality for entry in study.encoders.values()}
    by_place = [("training", study.training, modalities)]
    by_place += [
        (f"losses.{loss}.training", entry.training, modalities) for loss, entry in study.losses.items()
    ]
    by_place += [
        (f"encoders.{entry.modality}.{name}.training", entry.training, {entry.modality})
        for name, entry in study.encoders.items()
    ]
    for where, settings, applies_to in by_place:
        for key in switched_on(settings):
            if (modality := MODALITY_OF[key]) not in applies_to:
                raise ConfigError(
                    f"{study.file}: {where}.{key}: is for the modality '{modality}' only, and the encoder here is "
                    f"for {' and '.join(sorted(applies_to))}; leave it out"
                )


def _check_unknown_labels(study: Study, datasets: Mapping[str, DatasetFacts]) -> None:
    """What is trained and evaluated on a dataset whose labels may be unknown must be defined for such labels."""
    advice = "set on_missing_label to negative or skip, or put the dataset into a study of its own without it"
    for name in (name for name, facts in datasets.items() if facts.may_have_unknown_labels):
        where = f"{study.file}: datasets.{name}.on_missing_label: ignore: labels may be unknown"
        for loss, entry in study.losses.items():
            info = _described(study, loss, entry)
            is_used = info.modalities is None or datasets[name].modality in info.modalities
            if is_used and not info.elementwise:
                defined = ", ".join(n for n in losses.names() if losses.describe(n).elementwise)
                raise ConfigError(
                    f"{where}, and the loss {loss} is defined for known labels only ({defined} leave unknown ones "
                    f"out); {advice}"
                )
        if "knn" in study.readouts:
            raise ConfigError(
                f"{where}, and readouts lists knn, which needs all labels of a neighbour; {advice}"
            )


def _check_together(
    study: Study,
    protocol: ModuleType,
    loss: losses.LossInfo,
    encoder: str,
    frozen: bool,
    training: Mapping[str, Any],
) -> None:
    """Raises ConfigError where protocol, loss and encoder are each right, and do not go together."""
    name, modality = protocol.__name__.rpartition(".")[2], study.encoders[encoder].modality
    where = f"{study.file}: encoders.{modality}.{encoder}.freeze"
    if reason := protocols.incompatibility(protocol, loss, frozen=False):
        raise ConfigError(
            f"{study.file}: losses.{loss.name}: {name} cannot train it: {reason}; "
            f"set losses.{loss.name}.protocol to another one"
        )
    if frozen and (reason := protocols.incompatibility(protocol, loss, frozen)):
        raise ConfigError(f"{where}: {name} cannot train it: {reason}")
    for key in switched_on(training) if frozen else ():
        if MODALITY_OF[key] == modality:
            raise ConfigError(
                f"{where}: its features are computed once, so {key} cannot be {training[key]!r} ({name}'s default "
                f"or set in the study); set encoders.{modality}.{encoder}.training.{key}: "
                f"{OFF[key]}"
            )


def _protocols_used(study: Study) -> list[ModuleType]:
    return [protocols.load(_protocol_of(study, loss)) for loss in study.losses]


def _foreign(settings: Mapping[str, Any], protocol: ModuleType, study: Study) -> list[str]:
    """The settings that are not this protocol's, but another's of the study."""
    others = {key for other in _protocols_used(study) for key in other.Settings.model_fields}
    return sorted(key for key in settings if key in others - protocol.Settings.model_fields.keys())


def own_learning_rate(encoder: EncoderPart, protocol: ModuleType) -> dict[str, Any]:
    """The learning rate of the encoder's declaration, where it starts from random weights and the protocol's default
    is one for fine-tuning. A frozen encoder counts as pretrained: only a layer on its features is trained."""
    info = encoders.describe(encoder.name)
    settings = info.settings.model_validate(encoder.settings)
    if settings.pretrained or settings.freeze or not protocols.has_finetuning_rate(protocol):
        return {}
    return {"learning_rate": info.learning_rate}


def _known(settings: Mapping[str, Any], protocol: ModuleType) -> dict[str, Any]:
    """The settings that the protocol knows."""
    return {key: value for key, value in settings.items() if key in protocol.Settings.model_fields}


def _protocol_of(study: Study, loss: str) -> Protocol:
    """The protocol that trains a loss of the study. Raises ConfigError for one that is not made for it."""
    entry = study.losses[loss]
    inputs = _described(study, loss, entry).inputs
    name = entry.protocol or study.protocols.get(inputs) or protocols.DEFAULT[inputs]  # type: ignore[call-overload]
    trains = protocols.load(name).LOSS_INPUTS
    if inputs not in trains:
        where = f"losses.{loss}.protocol" if entry.protocol else f"protocols.{inputs}"
        raise ConfigError(
            f"{study.file}: {where}: {name} trains losses of {' and '.join(trains) or 'no kind'}, and {loss} is "
            f"called with {inputs}; the protocols for these: {', '.join(_protocols_for(inputs))}"
        )
    return name


def _protocols_for(inputs: str) -> list[str]:
    return [name for name in protocols.names() if inputs in protocols.load(name).LOSS_INPUTS]


def _described(study: Study, loss: str, entry: LossEntry) -> losses.LossInfo:
    try:
        return losses.describe(entry.name, file=entry.file)
    except losses.LossError as error:
        raise ConfigError(f"{study.file}: losses.{loss}: {error}") from None


def _loss_part(study: Study, loss: str, entry: LossEntry, changes: dict[str, Any]) -> LossPart:
    try:
        hyperparameters = losses.validate(entry.name, entry.hyperparameters | changes, file=entry.file)
    except losses.LossError as error:
        raise ConfigError(f"{study.file}: losses.{loss}: {error}") from None
    return LossPart(name=entry.name, file=entry.file, hyperparameters=hyperparameters)


def _encoder_part(study: Study, encoder: str, changes: dict[str, Any]) -> EncoderPart:
    entry: EncoderEntry = study.encoders[encoder]
    where = f"{study.file}: encoders.{entry.modality}.{encoder}"
    settings = _checked(encoders.describe(entry.name).settings, entry.settings | changes, where)
    return EncoderPart(name=entry.name, settings=settings.model_dump())


def _checked(model: type[SomeSettings], values: dict[str, Any], where: str) -> SomeSettings:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        defect = error.errors()[0]
        key = ".".join(str(part) for part in defect["loc"])
        if defect["type"] == "extra_forbidden":
            raise ConfigError(f"{where}.{key}: unknown key; {closest(key, model.model_fields)}") from None
        raise ConfigError(f"{where}.{key}: {defect['msg']} (given: {defect['input']!r})") from None
