"""Several losses and seeds on one dataset, as a small table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from mlcl.api.datasets import prepare
from mlcl.api.fitting import SHOWN, Result, fit
from mlcl.evaluation.readouts import common

if TYPE_CHECKING:
    import pandas as pd


def compare(
    dataset: Any,
    labels: Any = None,
    *,
    losses: Sequence[Any],
    seeds: Sequence[int] = (0,),
    metrics: Sequence[str] = SHOWN,
    progress: bool = False,
    text: str | None = None,
    split: Any = None,
    **settings: Any,
) -> Comparison:
    """Fits each loss with each seed, all else equal; the rest of the arguments are those of `mlcl.fit`.

    One or two seeds show whether something works. What can be told apart needs a study: more seeds, settings searched
    for each loss, intervals (docs/statistics.md). Raises as `mlcl.fit` does, and ValueError without losses or seeds.
    """
    if not losses or not seeds:
        raise ValueError("compare needs at least one loss and one seed")
    opened = prepare(dataset, labels, text=text, split=split)
    results = [
        fit(opened, loss=loss, seed=seed, progress=progress, **settings) for loss in losses for seed in seeds
    ]
    return Comparison(tuple(results), tuple(metrics))


@dataclass(frozen=True, repr=False)
class Comparison:
    """The results, and what they come to. `results` are in the order of the losses, then of the seeds."""

    results: tuple[Result, ...]
    metrics: tuple[str, ...]

    @property
    def readout(self) -> str:
        """The readout that all losses have, `linear` before `knn` before `head`; `own` where there is none."""
        readouts = [list(result.scores) for result in self.results if result.settings.loss is not None]
        return common(readouts, fallback=[self.results[0].readout])

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a loss; for each metric its mean over the seeds on test, and with several seeds its deviation."""
        import pandas as pd

        rows: dict[str, dict[str, float]] = {}
        for loss, row in self._by_loss().items():
            rows[loss] = {}
            for metric, values in row.items():
                rows[loss][metric] = fmean(values)
                if len(values) > 1:
                    rows[loss][f"{metric}_sd"] = stdev(values)
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="loss")

    def __repr__(self) -> str:
        rows = [("loss", *self.metrics), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self._caption()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in ("loss", *self.metrics))
        body = "".join(
            f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{text}</td>' for text in row[1:])}</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{escape(self._caption())}</p>"

    def _by_loss(self) -> dict[str, dict[str, list[float]]]:
        """loss -> metric -> values of the seeds. Two entries of one loss are told apart by a number."""
        seeds = len({result.settings.seed for result in self.results})
        rows: dict[str, dict[str, list[float]]] = {}
        for start in range(0, len(self.results), seeds):
            group = self.results[start : start + seeds]
            name, number = group[0].loss, 2
            while name in rows:
                name, number = f"{group[0].loss} ({number})", number + 1
            readouts = [self.readout if self.readout in result.scores else result.readout for result in group]
            rows[name] = {
                metric: [r.metric(metric, readout=read) for r, read in zip(group, readouts, strict=True)]
                for metric in self.metrics
            }
        return rows

    def _cells(self) -> list[tuple[str, ...]]:
        return [(loss, *(_text(values) for values in row.values())) for loss, row in self._by_loss().items()]

    def _caption(self) -> str:
        first = self.results[0]
        seeds = sorted({result.settings.seed for result in self.results})
        spread = "mean ± standard deviation over" if len(seeds) > 1 else "of"
        return (
            f"{first.dataset.name}, test split, in %, readout {self.readout}; {spread} seed"
            f"{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        )


def _text(values: Sequence[float]) -> str:
    mean = f"{100 * fmean(values):.1f}"
    return f"{mean} ± {100 * stdev(values):.1f}" if len(values) > 1 else mean
