"""How a metric is printed: its name, its direction, its unit. What it means stands in docs/metrics.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlcl.evaluation.ranges import higher_is_better


@dataclass(frozen=True)
class MetricInfo:
    """`scale` and `decimals` make a printed number of a value."""

    name: str
    title: str
    higher_is_better: bool = True
    scale: float = 100.0
    decimals: int = 1

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def is_percentage(self) -> bool:
        return self.scale == 100.0

    @property
    def is_of_embeddings(self) -> bool:
        """Of distances between embeddings (`mlcl.evaluation.representation`), not of scores."""
        return self.name.startswith(_OF_EMBEDDINGS)

    def better(self, a: float, b: float) -> bool:
        return a > b if self.higher_is_better else a < b

    def is_visible(self, difference: float) -> bool:
        """Whether a difference is printed as something else than 0: a smaller one decides nothing."""
        return abs(difference) * self.scale >= 0.5 * 10**-self.decimals


_TITLES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "macro_f1_all_labels": "macro-F1 (all labels)",
    "weighted_f1": "weighted F1",
    "samples_f1": "sample F1",
    "hamming_loss": "Hamming loss",
    "subset_accuracy": "subset accuracy",
    "map": "mAP",
    "micro_map": "micro-mAP",
    "macro_auc": "macro-AUC",
    "micro_auc": "micro-AUC",
    "lrap": "LRAP",
    "coverage_error": "coverage error",
    "ranking_loss": "ranking loss",
    "one_error": "one-error",
    "ece": "ECE",
    **{m: m.upper() for m in ("cp", "cr", "cf1", "op", "or", "of1")},
    "knn_micro_f1": "kNN micro-F1",
    "knn_macro_f1": "kNN macro-F1",
    "retrieval_map": "retrieval mAP",
}
_OF_EMBEDDINGS = ("knn_", "retrieval_", "alignment", "uniformity", "similarity_")
_PLAIN = {"coverage_error", "alignment", "uniformity"}
_SUFFIXES = {
    "tuned": "tuned thresholds",
    "oracle": "oracle: thresholds tuned on test",
    "at_80": "threshold 0.8",
    "top3": "top 3",
    "head": "head",
    "medium": "medium",
    "tail": "tail",
    "size_1": "1 label",
    "size_2_3": "2-3 labels",
    "size_4_up": "4 labels and more",
}


def metric_info(name: str) -> MetricInfo:
    """The printed form of any metric; an unknown one is shown under its own name as a plain number."""
    for suffix, words in _SUFFIXES.items():
        if name.endswith(f"_{suffix}"):
            base = metric_info(name.removesuffix(f"_{suffix}"))
            return MetricInfo(
                name, f"{base.title} ({words})", base.higher_is_better, base.scale, base.decimals
            )
    if at_k := re.fullmatch(r"(p|r|ndcg|psp)_at_(\d+)", name):
        short, k = at_k.groups()
        return MetricInfo(name, f"{'nDCG' if short == 'ndcg' else short.upper()}@{k}")
    if name not in _TITLES and name not in _PLAIN:
        return MetricInfo(name, name.replace("_", " "), scale=1.0, decimals=3)
    title = _TITLES.get(name, name.replace("_", " "))
    plain = name in _PLAIN
    return MetricInfo(name, title, higher_is_better(name), 1.0 if plain else 100.0, 2 if plain else 1)
