"""BibTeX entries of what a study uses: mlcl, and the publications of its datasets, losses and encoders (`mlcl cite`).

The entries stand in `references.bib`. Which are whose is said by `CITATIONS` in a module of `data_prep/sources`,
`CITATION` in a loss's file, and `mlcl/encoders/citations.py`. A comment above each entry says what of the study it is
for. What has no publication gets a comment alone, so that nothing is left out in silence.
"""

from __future__ import annotations

from typing import Any

from data_prep import registry
from data_prep.source import About, validate
from mlcl import encoders, losses
from mlcl.encoders.citations import citations as of_encoder
from mlcl.errors import ConfigError
from mlcl.published import MODELS, PREFIX
from mlcl.study import references
from mlcl.study.config import DatasetEntry, EncoderEntry, LossEntry, Study


class Bibliography:
    """Publications, each once, with what they are for."""

    def __init__(self) -> None:
        self._uses: dict[str, tuple[str, list[str]]] = {}
        self._without: list[str] = []

    def add(self, citation: str, use: str) -> None:
        """`citation`: as in `references.entry`. Raises ConfigError as it does, and for two entries of one key."""
        key, text = references.entry(citation, use)
        known, uses = self._uses.setdefault(key, (text, []))
        if known != text:
            raise ConfigError(f"{use}: its BibTeX key '{key}' is that of {uses[0]} too; choose another")
        uses.append(use)

    def add_without(self, use: str, reason: str) -> None:
        """Something that has no publication, or none that is known here."""
        self._without.append(f"{use}: {reason}")

    def render(self) -> str:
        blocks = ["\n".join([*map(_comment, uses), text]) for text, uses in self._uses.values()]
        if self._without:
            blocks.append("\n".join(map(_comment, self._without)))
        return "\n\n".join(blocks) + "\n"


def bibliography(study: Study) -> str:
    """All entries of a study as BibTeX. Raises DataError for settings that a source refuses, ConfigError for a loss's
    `CITATION` that is no entry."""
    found = Bibliography()
    found.add(references.SUITE, "the benchmark suite")
    for name, dataset in study.datasets.items():
        _add_dataset(found, name, dataset)
    for name, loss in study.losses.items():
        _add_loss(found, name, loss)
    for name, encoder in study.encoders.items():
        _add_encoder(found, name, encoder)
    return found.render()


def _add_dataset(found: Bibliography, name: str, dataset: DatasetEntry) -> None:
    entry = registry.find(dataset.source)
    settings = validate(entry.source.settings, dataset.settings, entry.preset, name)
    about = entry.source.about if isinstance(entry.source.about, About) else entry.source.about(settings)
    publications = registry.citations(entry, settings)
    for publication, part in publications.items():
        found.add(publication, f"dataset {name}" + (f", {part}" if part else ""))
    if not publications:
        found.add_without(f"dataset {name}", f"no publication; {about.citation.rstrip('.')}")


def _add_loss(found: Bibliography, name: str, loss: LossEntry) -> None:
    info = losses.describe(loss.name, file=loss.file)
    publication = losses.citation(loss.name, file=loss.file)
    if publication is not None:
        found.add(publication, f"loss {name}")
    else:
        found.add_without(f"loss {name}", f"no entry; {info.paper}")
    settings = losses.validate(loss.name, loss.hyperparameters, file=loss.file)
    for key in info.parts:
        part = settings[key] if isinstance(settings[key], str) else settings[key]["name"]
        _add_loss(found, f"{name}, {key}", LossEntry(name=part))


def _add_encoder(found: Bibliography, name: str, encoder: EncoderEntry) -> None:
    publications, unlisted = of_encoder(encoder.name, encoder.settings)
    for publication in publications:
        found.add(publication, f"encoder {name}")
    if not publications:
        found.add_without(f"encoder {name}", "no publication; mlcl's own small network")
    if unlisted:
        found.add_without(f"encoder {name}", f"no entry for the model {unlisted}; see its own page")
    if weights := _weights(encoder):
        found.add_without(f"encoder {name}", f"weights {weights}")


def _weights(encoder: EncoderEntry) -> str:
    """Where published weights are from; empty for random and local ones."""
    settings: Any = encoders.describe(encoder.name).settings.model_validate(encoder.settings)
    source = settings.weights_source
    if not settings.pretrained or source is None or source.startswith((".", "/", "~")):
        return ""
    if source.startswith(PREFIX):
        return MODELS[source.removeprefix(PREFIX)].title
    if "/" in source:
        return f"{source}, Hugging Face hub, commit {settings.revision}"
    return f"'{source}' of the library"


def _comment(text: str) -> str:
    """One line that BibTeX passes over: it has no `@`."""
    return "% " + " ".join(text.replace("@", " at ").split())
