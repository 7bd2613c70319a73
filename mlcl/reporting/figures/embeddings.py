"""Embeddings in two dimensions (t-SNE), coloured by the relation of label sets to that of an anchor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcl.evaluation.metrics import UNKNOWN
from mlcl.evaluation.representation import relations
from mlcl.records.files import JsonCache
from mlcl.records.paths import CellId
from mlcl.records.record import EMBEDDINGS, SCORES
from mlcl.records.rescore import read_embeddings, read_scores
from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, column_title, shared_legend, small_multiples
from mlcl.reporting.results import Results

CACHE = "embeddings_2d.json"
ROWS = 300
"""So many test rows are shown: the time of t-SNE grows with them, and more cannot be told apart."""
LOOKS = {
    "disjoint": ("#bdbdbd", ".", "no label in common"),
    "overlap": ("#56B4E9", "v", "some in common"),
    "subset": ("#009E73", "s", "some of the anchor's"),
    "superset": ("#E69F00", "D", "all of the anchor's and more"),
    "equal": ("#D55E00", "o", "the same labels"),
}


def draw(results: Results) -> Iterator[Figure]:
    cache = JsonCache(results.paths.results / CACHE)
    for dataset, encoder in results.outline.columns():
        by_loss = {}
        for loss in results.outline.losses:
            if (rows := _load(results, dataset, encoder, loss)) is not None:
                by_loss[loss] = rows
        if by_loss:
            yield _one(results, dataset, encoder, by_loss, cache)
    cache.write()


def _load(
    results: Results, dataset: str, encoder: str, loss: str
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Labels and embeddings of the first test rows without unknown labels, of the study's first seed; None if there are
    none or embeddings were not kept."""
    folder = results.paths.cell(CellId(dataset, encoder, loss, "base", results.outline.seeds[0]))
    embeddings = read_embeddings(folder / EMBEDDINGS)
    if embeddings is None:
        return None
    labels = read_scores(folder / SCORES, results.outline.readout)["test_labels"].astype(np.int64)
    whole = np.flatnonzero((labels != UNKNOWN).all(axis=1))[:ROWS]
    return (labels[whole], embeddings["test"][whole].astype(np.float32)) if len(whole) else None


def choose_anchor(labels: NDArray[np.int64]) -> int:
    """The row whose label set is related to the others in the most ways, each as often as may be."""
    masks = relations(labels @ labels.T, labels.sum(axis=1))
    related = np.stack([masks[name].sum(axis=1) for name in ("overlap", "subset", "superset", "equal")])
    related[3] -= 1  # itself
    return int(np.argmax(np.log1p(related).sum(axis=0)))


def _one(
    results: Results,
    dataset: str,
    encoder: str,
    by_loss: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    cache: JsonCache,
) -> Figure:
    outline = results.outline
    labels = next(iter(by_loss.values()))[0]
    anchor = choose_anchor(labels)
    masks = relations(labels @ labels.T, labels.sum(axis=1))
    with style.in_use():
        canvas, axes = small_multiples(
            [outline.title_of(loss) for loss in by_loss], [words for *_, words in LOOKS.values()], height=2.1
        )
        for ax, (_, embeddings) in zip(axes, by_loss.values(), strict=True):
            places = np.array(cache.get(_digest(embeddings), partial(project_to_plane, embeddings)))
            for name, (colour, marker, words) in LOOKS.items():
                chosen = np.flatnonzero(masks[name][anchor])
                ax.plot(*places[chosen].T, marker, color=colour, markersize=3.2, linestyle="none", label=words,
                        alpha=0.9, markeredgewidth=0)  # fmt: skip
            ax.plot(*places[anchor], "*", color=style.INK, markersize=9, label="the anchor", linestyle="none")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            ax.spines[:].set_visible(True)
        shared_legend(canvas, axes)
    counts = ", ".join(f"{words}: {int(masks[name][anchor].sum())}" for name, (_, _, words) in LOOKS.items())
    where = column_title(outline, dataset, encoder)
    return Figure(
        name=f"embeddings-{dataset}-{encoder}",
        title=f"Embeddings of {where}",
        caption=(
            f"{where}: t-SNE of the embeddings (l2-normalised) of the first {len(labels)} test rows for each loss, "
            f"seed {outline.seeds[0]}; colour and marker tell the relation of a row's label set to that of one anchor. "
            f"Distances between far groups mean nothing in such a view."
        ),
        alt=f"Scatter plots of {len(labels)} rows for {len(by_loss)} losses. Related to the anchor, {counts}.",
        canvas=canvas,
        dataset=dataset,
    )


def _digest(embeddings: NDArray[Any]) -> str:
    """Of the rows and of the code that maps them."""
    digest = hashlib.sha256(f"{version('scikit-learn')} {embeddings.shape}".encode())
    digest.update(Path(__file__).read_bytes())
    digest.update(np.ascontiguousarray(embeddings).tobytes())
    return digest.hexdigest()


def project_to_plane(embeddings: NDArray[Any]) -> list[list[float]]:
    """(rows, 2), as exact as a picture needs."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    normalised = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, max(2.0, (len(embeddings) - 1) / 4))
    model = TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=0, max_iter=400)
    # One thread: the work is small, the same on every machine, and others may be using the cores.
    with threadpool_limits(1):
        places: NDArray[Any] = model.fit_transform(normalised)
    return [[round(float(x), 3), round(float(y), 3)] for x, y in places]
