"""The sanity report of a prepared dataset: what was found in the raw files, in a few sentences, from its card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep import format as form
from data_prep.readers.labels import visible

MOST_LABELS = 8  # that are listed with their counts


def report(folder: Path) -> list[str]:
    """The sentences on the prepared dataset in a folder; none where there is no such dataset."""
    try:
        card = json.loads((folder / form.CARD).read_text(encoding="utf-8"))
        return sentences(card) if card["format"] in form.READABLE else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def sentences(card: Mapping[str, Any]) -> list[str]:
    """What a user should read before trusting a dataset: rows, labels, splits, duplicates, warnings, notes."""
    listed = [*(f"warning: {_warning(entry)}" for entry in card["warnings"]), *card["notes"]]
    return [*findings(card), *map(visible, listed)]


def findings(card: Mapping[str, Any]) -> list[str]:
    """What was found in the raw files: rows, labels, splits, duplicates."""
    found = card.get("found", {})
    listed = [
        *(_file(entry) for entry in found.get("files", ())),
        _labels(card),
        _splits(card, found.get("labelled_rows", {})),
        *_unknown(card.get("unknown_labels", {})),
        *_duplicates(found.get("duplicates", {})),
    ]
    return [visible(sentence) for sentence in listed]


def _file(entry: Mapping[str, Any]) -> str:
    parts = [f"{entry['rows']} rows"]
    parts += [f"{entry[key]} {key.replace('_', ' ')}" for key in entry if key not in ("file", "rows")]
    return f"{entry['file']}: {', '.join(parts)}"


def _labels(card: Mapping[str, Any]) -> str:
    counts: Counter[str] = Counter()
    for split in card["splits"].values():
        counts.update(split["label_counts"])
    listed = [f"{label} {count}" for label, count in counts.most_common(MOST_LABELS)]
    more = ", ..." if len(counts) > MOST_LABELS else ""
    return f"{len(counts)} labels with their counts: {', '.join(listed)}{more}"


def _splits(card: Mapping[str, Any], labelled: Mapping[str, int]) -> str:
    parts = []
    for name, split in card["splits"].items():
        count = labelled.get(name, split["examples"] - split["empty_rows"])
        parts.append(f"{name} {split['examples']} ({count})")
    return f"rows of each split (with labels): {', '.join(parts)}"


def _unknown(by_split: Mapping[str, Mapping[str, int]]) -> Sequence[str]:
    parts = []
    for split, counts in by_split.items():
        listed = [f"{label} {count}" for label, count in Counter(counts).most_common(MOST_LABELS) if count]
        more = ", ..." if sum(count > 0 for count in counts.values()) > MOST_LABELS else ""
        parts.append(
            f"{split} {sum(counts.values())} ({', '.join(listed)}{more})" if listed else f"{split} 0"
        )
    return [f"unknown labels, left out of losses and metrics: {'; '.join(parts)}"] if parts else []


def _duplicates(duplicates: Mapping[str, Any]) -> Sequence[str]:
    if not duplicates.get("rows"):
        return []
    across = duplicates["across_splits"]
    leak = f"; {across} contents are in more than one split" if across else ""
    return [f"{duplicates['rows']} rows repeat the content of an earlier one{leak}"]


def _warning(entry: Mapping[str, Any]) -> str:
    examples = f" (such as {', '.join(entry['examples'][:3])})" if entry["examples"] else ""
    return f"{entry['kind']}: {entry['count']}{examples}"
