"""The study file: read once, checked once, typed from here on.

A study reads like the experimental section of a paper: datasets, encoders, losses, protocol, seeds. Every
error names the file and the key and, for a name that is not known, the closest ones that are.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from data_prep.source import Modality
from mlcl.errors import ConfigError
from mlcl.evaluation.readouts import OWN, Readout
from mlcl.records.paths import RESERVED_NAMES, TRIAL, is_valid_name
from mlcl.study.deprecated import with_new_keys
from mlcl.study.search import SearchSettings
from mlcl.suggest import closest
from mlcl.training.settings import (
    ComputeSettings,
    Fraction,
    KnnEvaluationSettings,
    LinearEvaluationSettings,
    Protocol,
    Settings,
)

BASELINES = ("label_prior", "random", "random_encoder")
Baseline = Literal["label_prior", "random", "random_encoder"]
Inputs = Literal["embeddings", "logits", "both", "features"]
Json = dict[str, Any]


class DatasetEntry(Settings):
    """A dataset of the study; keys that do not stand here are settings of its source (`data_prep`)."""

    source: str
    """What kind of data it is, where the key is a name of its own."""
    fraction: Fraction = 1.0
    """Share of the training rows that is used."""
    val_fraction: Fraction = 1.0
    """Share of the validation rows that is used."""
    sampling: Literal["random", "stratified"] = "random"
    """How these shares are drawn; `stratified` keeps the labels' shares."""
    accept_local: bool = False
    """Accept raw files that differ from the published ones."""
    settings: Json = {}


class EncoderEntry(Settings):
    """An encoder of the study: a name known to `mlcl.encoders`, its settings, its own training settings."""

    name: str
    """The encoder, where the key is a name of its own."""
    modality: Modality
    settings: Json = {}
    training: Json = {}
    """Settings of training for this encoder."""


class LossEntry(Settings):
    """A loss of the study: a name known to `mlcl.losses`, or a file of your own."""

    name: str
    """The loss, where the key is a name of its own: two temperatures side by side."""
    file: Path | None = None
    """A loss in a file of its own. A relative path is meant from the study's folder or, if it is not there, from the
    working directory."""
    protocol: Protocol | None = None
    """The protocol that trains it. None: as `protocols` says."""
    hyperparameters: Json = {}
    training: Json = {}
    """Settings of training for this loss."""


class VariantEntry(Settings):
    """Settings that differ from the study's own."""

    dataset: Json = {}
    """`fraction`, `val_fraction`, `sampling`."""
    encoder: Json = {}
    """Settings of the encoder."""
    loss: Json = {}
    """Hyperparameters."""
    training: Json = {}
    linear_evaluation: Json = {}


class TableSettings(Settings):
    """What the main table shows, in this order."""

    metrics: Annotated[list[str], Field(min_length=1)] = ["micro_f1", "macro_f1", "map"]
    """Names as in metrics.csv."""
    split: Literal["val", "test"] = "test"
    readout: Literal["head", "linear", "knn", "own"] | None = None
    """None: the one that all losses have."""


class TunedSettings(Settings):
    """Settings of single rows that an earlier search chose, written down."""

    by: str
    """How they were found, for captions; such as the folder of the search's kept results."""
    rows: Annotated[dict[str, Json], Field(min_length=1)]
    """dataset/encoder/loss -> settings of training and hyperparameters"""


class Study(Settings):
    """A whole study. `name` is the stem of its file."""

    name: str
    file: Path
    title: str
    """Of tables and report."""
    description: str = ""
    """Shown below the title."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0, 1, 2]
    """Every cell is made once for each."""
    datasets: Annotated[dict[str, DatasetEntry], Field(min_length=1)]
    """Name -> settings of its source, or a list of names."""
    encoders: Annotated[dict[str, EncoderEntry], Field(min_length=1)]
    """Modality (`image`, `text`, `vector`) -> name -> settings."""
    losses: dict[str, LossEntry] = {}
    """Name -> hyperparameters, or a list of names."""
    baselines: list[Baseline] = []
    """What every loss should beat."""
    variants: dict[str, VariantEntry] = {}
    """Name -> what differs from the study; `base`, the study itself, is always there."""
    search: SearchSettings | None = None
    """How settings are searched for before the chosen ones run with the seeds."""
    tuned: TunedSettings | None = None
    """Settings of single rows that an earlier search chose."""
    protocols: dict[Inputs, Protocol] = {}
    """What a loss is called with -> the protocol that trains it, where that is not the usual one."""
    training: Json = {}
    """Settings of training, of all protocols that know them."""
    readouts: Annotated[list[Readout], Field(min_length=1)] = ["head", "linear"]
    """How each trained encoder is read; `head` where the loss trains one."""
    linear_evaluation: LinearEvaluationSettings = LinearEvaluationSettings()
    """Of the readout `linear`."""
    knn_evaluation: KnnEvaluationSettings = KnnEvaluationSettings()
    """Of the readout `knn`."""
    compute: ComputeSettings = ComputeSettings()
    """The hardware, and how it is used."""
    table: TableSettings = TableSettings()
    """What the main table shows."""
    keep_embeddings: bool = False
    """Store the features of val and test."""
    keep_models: bool = False
    """Keep each trained encoder with its heads, for `mlcl export`."""
    report_to: Literal["none", "tensorboard"] = "none"
    """Who gets the learning curve of each cell, besides its record; `tensorboard` needs the extra of that name."""
    data_root: Path | None = None
    """Where raw files lie; `--data-root` and MLCL_DATA_ROOT win over it."""

    @field_validator("seeds", "baselines", "readouts")
    @classmethod
    def _once_each(cls, values: list[Any]) -> list[Any]:
        if repeated := [value for i, value in enumerate(values) if value in values[:i]]:
            raise ValueError(f"{repeated[0]!r} is listed twice")
        return values

    @model_validator(mode="after")
    def _names_fit_into_paths(self) -> Study:
        parts = {
            "study": [self.name],
            "datasets": self.datasets,
            "encoders": self.encoders,
            "losses": self.losses,
            "variants": self.variants,
        }
        for key, names in parts.items():
            for name in names:
                if not is_valid_name(name):
                    raise ValueError(
                        f"{key}: '{name}' must consist of letters, digits, '_', '-' and '.' (not first)"
                    )
                if name in RESERVED_NAMES:
                    raise ValueError(f"{key}: the name '{name}' is taken by a folder of the suite")
        if clash := set(self.losses) & set(BASELINES):
            raise ValueError(f"losses: '{min(clash)}' is the name of a baseline")
        if self.table.readout not in (None, OWN, *self.readouts):
            raise ValueError(f"table.readout: '{self.table.readout}' is not among the study's readouts")
        if self.search is not None:
            self._check_search(self.search)
        if self.search is not None and self.tuned is not None:
            raise ValueError("tuned: the study searches for its settings; leave one of search and tuned out")
        if "none" in self.encoders:
            raise ValueError("encoders: 'none' stands for the baselines that have no encoder")
        if "base" in self.variants:
            raise ValueError("variants: 'base' is the study as it stands, and always there")
        if not self.losses and not self.baselines:
            raise ValueError("losses: neither a loss nor a baseline is listed")
        return self

    def _check_search(self, search: SearchSettings) -> None:
        if search.seed in self.seeds:
            raise ValueError(f"search.seed: {search.seed} is one of the study's seeds; take another")
        if search.readout not in (None, *self.readouts):
            raise ValueError(f"search.readout: '{search.readout}' is not among the study's readouts")
        if unknown := sorted(set(search.losses) - set(self.losses)):
            raise ValueError(f"search.losses: '{unknown[0]}' is no loss of the study")
        if taken := sorted(name for name in self.variants if name.startswith(TRIAL)):
            raise ValueError(f"variants: '{taken[0]}' is a name of the search's trials")


def load_study(file: Path) -> Study:
    """Reads and checks a study file. Raises ConfigError with one line a defect, naming file and key."""
    return parse_study(read_yaml(file), file)


def parse_study(content: Json, file: Path) -> Study:
    """Checks what a study file holds; `file` is its name in messages. Raises ConfigError as `load_study` does."""
    content = with_new_keys(content, file)
    defects: list[str] = []
    raw = {
        **content,
        "name": file.stem,
        "file": file,
        "datasets": _entries(content, "datasets", _dataset_entry, defects),
        "encoders": _encoder_entries(content, defects),
        "losses": _entries(
            content, "losses", lambda name, entry: _loss_entry(name, entry, file, defects), defects
        ),
        "variants": _entries(content, "variants", lambda _, entry: entry, defects),
    }
    if "evaluation" in content:
        defects.append(
            f"evaluation: is now 'readouts', a list of head, linear and knn (readouts: [{content['evaluation']}])"
        )
    if reserved := {"name", "file"} & set(content):
        defects.append(f"{min(reserved)}: is not a key of a study (its name is the file's)")
    study = None
    if not defects:
        try:
            study = Study.model_validate(raw)
        except ValidationError as error:
            defects = _explain(error, content)
    if study is None:
        raise ConfigError("\n".join(f"{file}: {defect}" for defect in defects))
    return study


MAX_VALUES = 100_000
"""Of a study file, its aliases written out. A few lines of aliases of aliases can stand for billions."""


class _StudyLoader(yaml.SafeLoader):
    """YAML with decimal numbers only, keys that differ, and as many values as `MAX_VALUES`.

    The library follows YAML 1.1, where `1e-1` is a text, `010` is 8 and `1:30` is 90, and keeps the last of two equal
    keys without a word.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        if (values := _values(node, {})) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"with its aliases written out it holds {values} values (at most {MAX_VALUES})"
            )
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a list or a mapping is no key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_scalar(node))


def _values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for, aliases written out; ConstructorError for one that holds itself."""
    if id(node) in known:
        if (values := known[id(node)]) is None:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias stands for what it is a part of", node.start_mark
            )
        return values
    known[id(node)] = None
    parts = node.value if isinstance(node, yaml.CollectionNode) else ()
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    known[id(node)] = values = 1 + sum(_values(part, known) for part in parts)
    return values


_INTEGER, _REAL = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_StudyLoader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INTEGER, _REAL)]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StudyLoader.add_implicit_resolver(_INTEGER, re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_StudyLoader.add_implicit_resolver(
    _REAL,
    re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
_StudyLoader.add_constructor(_INTEGER, _StudyLoader.construct_decimal)


def read_yaml(file: Path) -> Json:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_StudyLoader)  # a SafeLoader
    except FileNotFoundError:
        others = sorted(str(path) for path in Path("config").rglob("*.yaml"))
        raise ConfigError(f"{file}: there is no such study file; {closest(str(file), others)}") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # a date that is none, a number of thousands of digits
        raise ConfigError(f"{file}: is not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: is not valid YAML: nested too deeply") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: must be a mapping (title, datasets, encoders, losses, ...)")
    return content


def _entries(content: Json, key: str, make: Any, defects: list[str]) -> Json:
    """The mapping under `key`, each value made an entry; `name:` alone means no settings; a list means names."""
    listed = content.get(key) or {}
    if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
        if twice := next((name for name in listed if listed.count(name) > 1), None):
            defects.append(f"{key}: {twice} is listed twice")
        listed = dict.fromkeys(listed)
    if not isinstance(listed, dict):
        defects.append(f"{key}: must be a mapping of names to settings")
        return {}
    entries = {}
    for name, entry in listed.items():
        if not isinstance(name, str):
            defects.append(f"{key}: the name {name!r} must be text (quote it)")
        elif not isinstance(entry or {}, dict):
            defects.append(f"{key}.{name}: must be a mapping of settings, not {entry!r}")
        else:
            entries[name] = make(name, dict(entry or {}))
    return entries


def _dataset_entry(name: str, entry: Json) -> Json:
    own = DatasetEntry.model_fields.keys() - {"settings"}
    keys: Json = {key: entry.pop(key) for key in own & entry.keys()}
    return {"source": name, **keys, "settings": entry}


def _loss_entry(name: str, entry: Json, study_file: Path, defects: list[str]) -> Json:
    keys: Json = {key: entry.pop(key) for key in ("name", "file", "protocol", "training") if key in entry}
    if isinstance(keys.get("file"), str):
        given = Path(keys["file"])
        keys["file"] = _resolve(given, study_file)
        if not given.is_absolute() and not keys["file"].exists():
            defects.append(
                f"losses.{name}: file: {given} is neither in the study's folder ({study_file.parent.absolute()}) "
                f"nor in the working directory ({Path.cwd()})"
            )
        keys.setdefault("name", keys["file"].stem)
    return {"name": name, **keys, "hyperparameters": entry}


def _resolve(file: Path, study_file: Path) -> Path:
    """A relative path is meant from the study's folder or, if it is not there, from the working directory."""
    beside = study_file.parent / file
    return beside if beside.exists() or not file.exists() else file


def _encoder_entries(content: Json, defects: list[str]) -> Json:
    by_modality = content.get("encoders") or {}
    if not isinstance(by_modality, dict):
        defects.append("encoders: must be a mapping of modalities (image, text, vector) to encoders")
        return {}
    entries: Json = {}
    for modality in by_modality:
        if modality not in ("image", "text", "vector"):
            defects.append(
                f"encoders.{modality}: is no modality; {closest(str(modality), ('image', 'text', 'vector'))}"
            )
            continue

        def entry_of(name: str, entry: Json, modality: str = modality) -> Json:
            keys: Json = {key: entry.pop(key) for key in ("name", "training") if key in entry}
            return {"name": name, **keys, "modality": modality, "settings": entry}

        of_modality = _entries(by_modality, modality, entry_of, defects)
        twice = sorted(of_modality.keys() & entries.keys())
        defects.extend(f"encoders.{modality}.{name}: is listed under two modalities" for name in twice)
        entries |= of_modality
    return entries


def _explain(error: ValidationError, content: Mapping[str, Any]) -> list[str]:
    """One readable line for each defect that pydantic found."""
    lines = []
    for defect in error.errors():
        location = [str(part) for part in defect["loc"]]
        key = ".".join(location)
        match defect["type"]:
            case "extra_forbidden":
                message = f"unknown key; {closest(location[-1], _known_keys(location[:-1]))}"
            case "missing":
                message = "is missing"
            case "value_error":
                message = str(defect["ctx"]["error"])
            case _:
                message = f"{defect['msg']} (given: {defect['input']!r})"
        lines.append(f"{key}: {message}" if key else message)
    return lines


def _known_keys(location: list[str]) -> list[str]:
    models: dict[str, type[Settings]] = {
        "linear_evaluation": LinearEvaluationSettings,
        "knn_evaluation": KnnEvaluationSettings,
        "compute": ComputeSettings,
        "table": TableSettings,
        "search": SearchSettings,
        "tuned": TunedSettings,
        "variants": VariantEntry,
    }
    model = models.get(location[0], Study) if location else Study
    return [key for key in model.model_fields if not (model is Study and key in ("name", "file"))]
