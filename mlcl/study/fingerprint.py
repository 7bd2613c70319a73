"""What makes a cell stale: its settings, its dataset, its stored weights, the code it passes through. Nothing else."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mlcl
from data_prep import syntax
from mlcl import encoders
from mlcl.digests import canonical_json
from mlcl.study.cells import Cell
from mlcl.study.code import code_of, installed

PACKAGE = Path(mlcl.__file__).parent

METRICS = "mlcl.records.rescore.metrics_of"
"""Where code begins whose change needs no training: metrics are computed anew from what is stored."""


def source_digest(file: Path) -> str:
    """A digest of what the Python file does: comments, docstrings and layout left out."""
    return syntax.digest(ast.parse(file.read_text(encoding="utf-8"), filename=str(file)))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def metrics_source() -> str:
    """The digest of what turns scores and embeddings into metrics."""
    return installed().reach([METRICS]).digest[:16]


def payload(cell: Cell, dataset_fingerprint: str) -> dict[str, Any]:
    """All that the cell's result depends on, as one JSON-able mapping: its hash is the fingerprint."""
    settings = cell.settings
    dumped = settings.model_dump(mode="json", exclude={"loss": {"file"}})
    weights = None
    if settings.encoder is not None:
        encoder = (settings.encoder.name, settings.encoder.settings)
        weights = encoders.weights_digest(*encoder)
        # What lies in a folder counts, not where it lies.
        dumped["encoder"]["settings"] = _without(
            encoders.local_sources(*encoder), dumped["encoder"]["settings"]
        )
    return {
        "settings": dumped,
        "dataset_fingerprint": dataset_fingerprint,
        "weights": weights,
        "code": code_of(settings).digest,
    }


def _without(places: list[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with None for each of these places."""
    return {
        key: _without(places, value) if isinstance(value, Mapping) else None if value in places else value
        for key, value in settings.items()
    }


def fingerprint(payload: Mapping[str, Any]) -> str:
    return digest(canonical_json(payload))


@cache
def reporting_source() -> str:
    """The digest of what turns records into tables, figures and the report."""
    folders = (PACKAGE / "records", PACKAGE / "reporting")
    files = sorted(
        file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".html", ".tex")
    )
    texts = [
        source_digest(file) if file.suffix == ".py" else digest(file.read_text("utf-8")) for file in files
    ]
    return digest("".join(texts))[:16]
