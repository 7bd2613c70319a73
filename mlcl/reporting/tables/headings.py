"""What the report calls each table."""

from __future__ import annotations

from mlcl.evaluation.readouts import in_words
from mlcl.records.outline import Outline

HEADINGS = {
    "main": "Losses by metrics",
    "criteria": "Ranking, and decisions at tuned thresholds and at 0.5",
    "search": "Chosen settings",
    "tuned": "Settings of an earlier search",
    "variants": "Variants",
    "differences": "Differences to the best loss",
    "best-against-each": "The best loss against each other one",
    "papers": "Numbers of papers",
    "costs": "Costs",
}


def heading(name: str, outline: Outline) -> str:
    """Of the table of this name."""
    if name in HEADINGS:
        return HEADINGS[name]
    kind, _, of = name.partition("-")
    if kind == "main":
        return f"By {in_words(of)}"
    if kind == "paper":
        return f"Numbers of a paper: {of}"
    for kind, words in (
        ("label-scores-", "Results of single labels"),
        ("label-confusions-", "Confused labels"),
    ):
        if name.startswith(kind):
            dataset = outline.datasets.get(name.removeprefix(kind))
            return words if dataset is None else f"{words}: {dataset.title}"
    return name
