"""The JSON Schema of the study file, by which editors complete and check keys (`mlcl schema`).

Made from the same models that check a study. It is a little more lenient than these: what depends on several keys at
once (whether a protocol knows a setting of training, whether loss and encoder go together) only planning can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from data_prep import registry
from mlcl import encoders, losses
from mlcl.study.attributes import Schema, schema_of
from mlcl.study.config import DatasetEntry, LossEntry, Study, VariantEntry
from mlcl.training import protocols

OWN = {"name", "file", "datasets", "encoders", "losses", "variants", "training"}
"""Keys of the model that a file writes in another way, or not at all."""
TRAINING: Schema = {"$ref": "#/$defs/training"}
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def study_schema() -> Schema:
    """As `config/study.schema.json` holds it."""
    keys, definitions = schema_of(Study)["properties"], {"training": _training()}
    properties: Schema = {
        **{key: part for key, part in keys.items() if key not in OWN},
        "datasets": _datasets(definitions),
        "encoders": _encoders(definitions),
        "losses": _losses(),
        "variants": _variants(),
        "training": TRAINING,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of mlcl",
        "description": "Made by `mlcl schema`; what the keys mean: docs/reference/study.md.",
        "type": "object",
        "required": ["title", "datasets", "encoders"],
        "additionalProperties": False,
        "properties": {key: properties[key] for key in Study.model_fields if key in properties},
        "$defs": definitions,
    }


def training_models() -> dict[str, Any]:
    """protocol -> its class of training settings, for those that train."""
    models = {name: protocols.load(name).Settings for name in protocols.names()}
    return {name: model for name, model in models.items() if model is not None}


def _training() -> Schema:
    """The settings of all protocols together; a default that all of them share stays."""
    merged: Schema = {}
    for model in training_models().values():
        for key, part in schema_of(model)["properties"].items():
            known = merged.setdefault(key, dict(part))
            if known.get("default") != part.get("default"):
                known.pop("default", None)
    return {"type": "object", "additionalProperties": False, "properties": merged}


def _datasets(definitions: Schema) -> Schema:
    entry = {key: part for key, part in schema_of(DatasetEntry)["properties"].items() if key != "settings"}
    entry["source"] = {"type": "string", "description": "what kind of data it is"}
    named: Schema = {}
    for name in registry.names():
        found = registry.find(name)
        own = schema_of(found.source.settings).get("properties", {})
        shown = {key: part for key, part in own.items() if key not in found.preset}
        definitions[f"dataset_{found.module}"] = _entry({**shown, **entry}, unless=("source",))
        named[name] = {"$ref": f"#/$defs/dataset_{found.module}"}
    entry["source"] = {"enum": list(named), "description": "what kind of data it is"}
    return _mapping(named, other={"type": ["object", "null"], "properties": entry})


def _encoders(definitions: Schema) -> Schema:
    """A short name has the settings of its family, but for the model that it stands for."""
    by_modality: Schema = {}
    for modality in ("image", "text", "vector"):
        infos = {name: encoders.describe(name) for name in encoders.names()}
        fitting = {name: info for name, info in infos.items() if info.modality == modality}
        entry: Schema = {"name": {"enum": list(fitting)}, "training": TRAINING}
        named: Schema = {}
        for name, info in fitting.items():
            own = schema_of(encoders.describe(info.name).settings)["properties"]
            kind = info.name if name == info.name else f"{info.name}_model"
            shown = {key: part for key, part in own.items() if kind == info.name or key != "model"}
            definitions[f"encoder_{kind}"] = _entry({**shown, **entry}, unless=("name",))
            named[name] = {"$ref": f"#/$defs/encoder_{kind}"}
        by_modality[modality] = _mapping(named, {"type": ["object", "null"], "properties": entry})
    return {"type": "object", "additionalProperties": False, "properties": by_modality}


def _losses() -> Schema:
    fields = schema_of(LossEntry)["properties"]
    entry: Schema = {key: fields[key] for key in ("name", "file", "protocol")} | {"training": TRAINING}
    named: Schema = {}
    for name in losses.names():
        info = losses.describe(name)
        own = {key: _hyperparameter(info, key) for key in info.hyperparameters}
        named[name] = {"description": info.summary} | _entry({**own, **entry}, unless=("name", "file"))
    return _mapping(named, {"type": ["object", "null"], "properties": entry})


def _hyperparameter(info: losses.LossInfo, key: str) -> Schema:
    default = info.hyperparameters[key]
    if key in info.parts:
        fitting = [name for name in losses.names() if losses.describe(name).inputs == info.parts[key]]
        return {"anyOf": [{"enum": fitting}, {"type": "object", "required": ["name"]}]}
    schema: Schema = {"type": TYPES[type(default)], "default": default}
    return schema | ({"description": info.allowed[key]} if key in info.allowed else {})


def _variants() -> Schema:
    properties = {key: {"type": "object"} for key in VariantEntry.model_fields} | {"training": TRAINING}
    return {
        "description": "Named changes of the study; `base` is always there.",
        "type": "object",
        "additionalProperties": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": properties,
        },
    }


def _entry(properties: Mapping[str, Any], unless: Iterable[str]) -> Schema:
    """What stands under a known name: nothing, its own keys, or another thing that is said to be so (`unless`)."""
    own = {"type": "object", "additionalProperties": False, "properties": dict(properties)}
    others = [{"type": "object", "required": [key]} for key in unless]
    return {"anyOf": [{"type": "null"}, own, *others]}


def _mapping(named: Schema, other: Schema) -> Schema:
    """Names to settings, or a list of known names."""
    return {
        "anyOf": [
            {"type": "object", "properties": named, "additionalProperties": other},
            {"type": "array", "items": {"enum": list(named)}, "uniqueItems": True},
        ]
    }
