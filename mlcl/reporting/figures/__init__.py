"""Figures of a study. A module draws one kind from the results; each figure brings its caption and its alt text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mlcl.evaluation.readouts import in_words
from mlcl.records.files import write_json
from mlcl.reporting.figures import (
    costs,
    dataset_labels,
    dot_plots,
    embeddings,
    frequency,
    heat_map,
    learning_curves,
    pair_weights,
    ranks,
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
    "Costs": costs.draw_trade_off,
    "Training steps": costs.draw_step_parts,
    "Pair weights": pair_weights.draw,
    "Embeddings": embeddings.draw,
    "Learning curves": learning_curves.draw,
    "Frequencies of labels": dataset_labels.draw,
}
OF_SCORES = frozenset({
    "Losses by datasets", "Ranks of losses", "Comparison of losses", "Label frequency", "Sensitivity", "Costs",
})  # fmt: skip
"""Kinds that show scores, so that their captions name the readout."""
INDEX = "index.json"


def write_figures(study: str | Path) -> None:
    """`results/<study>/figures/*.pdf|png` and an index with captions; figures of an earlier state are removed."""
    results = load_results(study)
    folder = results.paths.figures
    index = []
    for kind, draw in KINDS.items():
        for figure in draw(results):
            style.save(figure.canvas, folder / figure.name)
            texts = {key: getattr(figure, key) for key in ("name", "title", "caption", "alt", "dataset")}
            if kind in OF_SCORES:
                texts["caption"] += f" Readout: {in_words(results.outline.readout)}."
            index.append({"kind": kind, **texts})
    write_json(folder / INDEX, index)
    kept = {f"{entry['name']}.{ending}" for entry in index for ending in ("pdf", "png")} | {INDEX}
    for file in folder.iterdir():
        if file.suffix in (".pdf", ".png") and file.name not in kept:
            file.unlink()
