"""Figures of a study. A module draws one kind from the results; each figure brings its caption and its alt text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlcl.evaluation.readouts import in_words
from mlcl.records.files import write_json
from mlcl.reporting.failures import Attempts, Failure
from mlcl.reporting.figures import (
    costs,
    dataset_labels,
    dot_plots,
    embeddings,
    frequency,
    heat_map,
    label_confusions,
    label_scores,
    learning_curves,
    pair_weights,
    ranks,
    search,
    sensitivity,
    style,
)
from mlcl.reporting.figures.style import Figure
from mlcl.reporting.results import Results, load_results

KINDS: dict[str, Callable[[Results], Iterator[Figure]]] = {
    "Losses by datasets": heat_map.draw,
    "Ranks of losses": ranks.draw,
    "Comparison of losses": dot_plots.draw,
    "Label frequency": frequency.draw,
    "Sensitivity": sensitivity.draw,
    "Search": search.draw,
    "Costs": costs.draw_trade_off,
    "Training steps": costs.draw_step_parts,
    "Pair weights": pair_weights.draw,
    "Embeddings": embeddings.draw,
    "Labels": label_scores.draw,
    "Confused labels": label_confusions.draw,
    "Learning curves": learning_curves.draw,
    "Frequencies of labels": dataset_labels.draw,
}
OF_SCORES = frozenset({
    "Losses by datasets", "Ranks of losses", "Comparison of losses", "Label frequency", "Sensitivity", "Costs",
    "Labels", "Confused labels",
})  # fmt: skip
"""Kinds that show scores, so that their captions name the readout."""
INDEX = "index.json"


def write_figures(study: str | Path) -> list[Failure]:
    """`results/<study>/figures/*.pdf|png` and an index with captions; figures of an earlier state are removed.

    A figure that fails is an entry of the index with its `error`; the failures are returned.
    """
    results = load_results(study)
    folder = results.paths.figures
    attempts = Attempts("figures")
    index: list[dict[str, Any]] = []
    for kind, draw in KINDS.items():
        figures = draw(results)
        while (figure := attempts.make(kind, lambda figures=figures: next(figures, None))) is not None:  # type: ignore[misc]
            if not isinstance(figure, Failure):
                figure = attempts.make(kind, lambda figure=figure: _save(figure, folder))  # type: ignore[misc]
            if isinstance(figure, Failure):
                index.append(_failed(kind, figure))
            else:
                texts = {key: getattr(figure, key) for key in ("name", "title", "caption", "alt", "dataset")}
                if kind in OF_SCORES:
                    texts["caption"] += f" Readout: {in_words(results.outline.readout)}."
                index.append({"kind": kind, **texts})
    write_json(folder / INDEX, index)
    drawn = {
        f"{entry['name']}.{ending}" for entry in index if "error" not in entry for ending in ("pdf", "png")
    }
    for file in folder.iterdir():
        if file.suffix in (".pdf", ".png") and file.name not in drawn:
            file.unlink()
    return attempts.write(results.paths)


def _save(figure: Figure, folder: Path) -> Figure:
    style.save(figure.canvas, folder / figure.name)
    return figure


def _failed(kind: str, failure: Failure) -> dict[str, Any]:
    name = f"failed-{kind.lower().replace(' ', '-')}"
    caption = f"This figure failed: {failure.reason}"
    return {
        "kind": kind,
        "name": name,
        "title": kind,
        "caption": caption,
        "alt": caption,
        "dataset": None,
        "error": failure.reason,
    }
