"""Heat map: losses by datasets; the colour says how far a loss is behind the best one there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, column_title
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import complete_means, primary_metric
from mlcl.reporting.results import Results

SHADES = LinearSegmentedColormap.from_list("behind", ["#ffffff", "#9ec5e3", "#1f5f96", "#0b2c4a"])
"""Light is best; darker in grey too."""


def draw(results: Results) -> Iterator[Figure]:
    metric = metric_info(primary_metric(results))
    means = complete_means(results, metric.name)
    columns = [
        column
        for column in results.outline.columns()
        if any(column in by_column for by_column in means.values())
    ]
    if len(means) < 2 or len(columns) < 2:
        return
    values = (
        np.array([[by_column.get(column, np.nan) for column in columns] for by_column in means.values()])
        * metric.scale
    )
    best = np.nanmax(values, axis=0) if metric.higher_is_better else np.nanmin(values, axis=0)
    behind = np.abs(best - values)
    wide = len(columns) > 5
    canvas = style.new_canvas(
        style.TWO_COLUMNS if wide else style.ONE_COLUMN, 1.1 + 0.22 * max(len(means), 5)
    )
    with style.in_use():
        ax = canvas.subplots()
        ax.set_facecolor("#eeeeee")
        darkest = max(float(np.nanmax(behind)), 1e-9)
        image = ax.imshow(behind, cmap=SHADES, aspect="auto", vmin=0, vmax=darkest)
        for i, j in np.argwhere(np.isfinite(values)):
            dark = behind[i, j] > 0.45 * darkest
            ax.text(
                j, i, f"{values[i, j]:.{metric.decimals}f}", ha="center", va="center", fontsize=6.5,
                color="white" if dark else style.INK, weight="bold" if behind[i, j] == 0 else "normal",
            )  # fmt: skip
        titles = [column_title(results.outline, *column) for column in columns]
        ax.set_xticks(range(len(columns)), titles, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(means)), [results.outline.title_of(loss) for loss in means])
        ax.set_title(metric.title + (" in %" if metric.is_percentage else ""))
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        bar = canvas.colorbar(image, ax=ax, shrink=0.9, pad=0.02)
        bar.set_label("behind the best")
        bar.outline.set_visible(False)
    yield Figure(
        name="heat-map",
        title=f"Losses by datasets: {metric.title}",
        caption=(
            f"{metric.title} {'in % ' if metric.is_percentage else ''}on the {results.outline.split} split, mean over "
            f"seeds; the darker, the further behind the best of the dataset (bold). Empty: not all seeds are there."
        ),
        alt=f"Heat map of {len(means)} losses by {len(columns)} datasets. "
        + _best_in_words(results, means, titles, values, best),
        canvas=canvas,
    )


def _best_in_words(
    results: Results,
    means: dict[str, dict[tuple[str, str], float]],
    titles: list[str],
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    best: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> str:
    names = [results.outline.title_of(loss) for loss in means]
    return "Best: " + ", ".join(
        f"{names[int(np.nanargmin(np.abs(values[:, j] - best[j])))]} on {title}"
        for j, title in enumerate(titles)
    )
