"""Checks what a user set for a source against what the source declares."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from data_prep.errors import DataError, closest
from data_prep.source import Settings


def validate(
    model: type[Settings], given: Mapping[str, Any], preset: Mapping[str, Any], name: str
) -> Settings:
    """Settings with all defaults filled in; raises DataError naming the key that is wrong."""
    allowed = [key for key in model.model_fields if key not in preset]
    for key in given:
        if key not in allowed:
            raise DataError(f"dataset {name}: unknown setting {key!r}: {closest(str(key), allowed)}")
    try:
        return model(**given, **preset)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        message = str(first["msg"]).removeprefix("Value error, ")
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise DataError(f"dataset {name}: setting {where!r}: {message}{got}") from None
