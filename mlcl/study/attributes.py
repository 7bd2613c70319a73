"""The settings of pydantic models as documentation shows them: type, default, what the docstring below says."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


@dataclass(frozen=True)
class Attribute:
    """A setting. `default`: as YAML or JSON shows it; `required` where there is none."""

    name: str
    type: str
    default: str
    description: str


def attributes_of(model: type[BaseModel]) -> list[Attribute]:
    """All settings of a model, inherited ones first."""
    schema, docs = schema_of(model), docstrings(model)
    required = schema.get("required", [])
    return [
        Attribute(
            name,
            in_words(part),
            "required" if name in required else _default(part.get("default")),
            str(part.get("description") or docs.get(name, "")),
        )
        for name, part in schema.get("properties", {}).items()
    ]


def schema_of(model: type[BaseModel]) -> Schema:
    """The model's JSON Schema in one piece: no references, no titles; descriptions from docstrings."""
    return described(model.model_json_schema(), docstrings(model))


def described(schema: Schema, docs: Mapping[str, str]) -> Schema:
    """The schema with references filled in and titles left out; `docs` describe the properties of its first level."""
    plain: Schema = _inlined(schema, schema.get("$defs", {}))
    for name, part in plain.get("properties", {}).items():
        if "description" not in part and name in docs:
            part["description"] = docs[name]
    return plain


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        target = definitions[part["$ref"].rpartition("/")[2]]
        others = {key: value for key, value in part.items() if key != "$ref"}
        return _inlined({**target, **others}, definitions)
    return {
        key: {name: _inlined(each, definitions) for name, each in value.items()}
        if key == "properties"
        else _inlined(value, definitions)
        for key, value in part.items()
        if key not in ("$defs", "title") and not (key == "description" and "properties" in part)
    }


@cache
def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Setting -> the docstring below its line, of the class and of those that it is derived from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not (issubclass(base, BaseModel) and base is not BaseModel):
            continue
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):  # made by pydantic.create_model
            continue
        (definition,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(definition, ast.ClassDef)
        for line, below in zip(definition.body, definition.body[1:], strict=False):
            match line, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found


def in_words(schema: Mapping[str, Any]) -> str:
    """A type as a reader takes it: `whole number > 0`, `cosine | linear`, `list of texts`."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(str(value) or '""' for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(in_words(each) for each in schema[key]))
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true | false",
        "null": "none",
        "object": "mapping",
    }
    kind = schema.get("type")
    if kind == "array":
        items = in_words(schema.get("items", {}))
        return f"list of {items}" if "|" not in items else f"list of ({items})"
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return " ".join(filter(None, [words.get(str(kind), "anything"), ", ".join(limits)]))


def _default(value: Any) -> str:
    import json

    if value is None:
        return "none"
    return str(value) if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
