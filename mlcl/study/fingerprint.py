"""What makes a cell stale: its settings, its dataset, its loss's source, the source of the core. Nothing else."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mlcl
from data_prep import syntax
from mlcl import encoders, losses
from mlcl.records.files import canonical_json
from mlcl.study.cells import Cell
from mlcl.training.settings import LossPart

PACKAGE = Path(mlcl.__file__).parent

CORE = (
    "losses/__init__.py",
    "losses/_*.py",
    "encoders/*.py",
    "data/*.py",
    "training/**/*.py",
    "evaluation/__init__.py",
    "evaluation/knn.py",
    "evaluation/linear.py",
)
"""Modules whose change makes every cell stale. Planning, records, reporting and the command line have no part in a
result."""

NOT_CORE = (
    "encoders/flops.py",
    "training/events.py",
    "training/launch.py",
    "training/step_timer.py",
    "training/throughput.py",
)
"""What lies among them and changes no result: pages, costs, the starting of processes."""

METRICS = ("evaluation/metrics.py", "evaluation/representation.py", "records/rescore.py")
"""Modules whose change needs no training: metrics are computed anew from what is stored."""


def source_digest(file: Path) -> str:
    """A digest of what the Python file does: comments, docstrings and layout left out."""
    return syntax.digest(ast.parse(file.read_text(encoding="utf-8"), filename=str(file)))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def core_sources() -> Mapping[str, str]:
    """File -> digest for all modules of the core."""
    found = {file for pattern in CORE for file in PACKAGE.glob(pattern)}
    files = sorted(found - {PACKAGE / file for file in NOT_CORE})
    return {file.relative_to(PACKAGE.parent).as_posix(): source_digest(file)[:16] for file in files}


def metrics_source() -> str:
    """The digest of what turns scores and embeddings into metrics."""
    files = [PACKAGE / file for file in METRICS]
    return digest("".join(source_digest(file) for file in files))[:16]


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
        "loss_source": _loss_source(settings.loss) if settings.loss else None,
        "core_sources": dict(core_sources()),
    }


def _without(places: list[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with None for each of these places."""
    return {
        key: _without(places, value) if isinstance(value, Mapping) else None if value in places else value
        for key, value in settings.items()
    }


def _loss_source(loss: LossPart) -> str:
    """The loss's own file, and those of other losses that it builds on; the shared code is core."""
    own, others = losses.source_files(loss.name, file=loss.file, settings=loss.hyperparameters)
    files = [own, *(file for file in others if not file.stem.startswith("_"))]
    return digest("".join(source_digest(file) for file in files))[:16]


def fingerprint(payload: Mapping[str, Any]) -> str:
    return digest(canonical_json(payload))


def reporting_source() -> str:
    """The digest of what turns metrics into tables, figures and the report."""
    files = sorted(
        file for file in (PACKAGE / "reporting").rglob("*") if file.suffix in (".py", ".html", ".tex")
    )
    texts = [
        source_digest(file) if file.suffix == ".py" else digest(file.read_text("utf-8")) for file in files
    ]
    return digest("".join(texts))[:16]
