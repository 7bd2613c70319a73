"""What each loss was given, in words: how its weights were chosen, whether it was tuned, whether budgets are equal.

A comparison is only as fair as that, so tables, claims and report say it; all of it follows from the outline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from mlcl.evaluation.readouts import in_words
from mlcl.records.outline import NO_ENCODER, Outline
from mlcl.reporting.metric_info import metric_info

MOST_NAMED = 6
"""Differences of settings; how many more there are is counted."""
OTHER_THRESHOLDS = ("_at_80", "_tuned", "_oracle")
"""Endings of metrics whose decisions are not made at 0.5."""


def selection_rule(outline: Outline, metrics: Sequence[str] | None = None) -> str:
    """How scores are made of the encoder, how the evaluated weights were chosen, and how decisions are made in these
    metrics (the table's by default)."""
    by_rule: dict[str, list[str]] = {}
    for loss, encoder in _pairs(outline):
        rule = outline.training_of(loss, encoder).get("selection", "last")
        by_rule.setdefault(_rule_in_words(rule), []).append(loss)
    if len(by_rule) == 1:
        rules = next(iter(by_rule))
    else:
        rules = "; ".join(f"{rule} ({', '.join(dict.fromkeys(losses))})" for rule, losses in by_rule.items())
    rules += "".join(_rules_of_variants(outline))
    tuned = "" if outline.readout == "head" else ", whose settings are chosen on validation"
    others = any(name.endswith(OTHER_THRESHOLDS) for name in metrics or outline.metrics)
    decisions = "Decisions at threshold 0.5" + " where a metric's name says no other" * others
    return f"Readout: {in_words(outline.readout)}{tuned}. Model selection: {rules}. {decisions}."


def _rules_of_variants(outline: Outline) -> Iterator[str]:
    """What variants do otherwise than the study as it stands, such as those with a stage of fine-tuning."""
    rules: dict[str, set[str]] = {}
    for cell in outline.cells:
        if cell.selection is not None:
            rules.setdefault(cell.id.variant, set()).add(cell.selection)
    for variant, variant_rules in rules.items():
        if others := sorted(variant_rules - rules.get("base", variant_rules)):
            yield f"; in the variant {variant}, {' or '.join(map(_rule_in_words, others))}"


def tuning_in_words(outline: Outline) -> str:
    """What search for settings each loss had, and whether all were trained with the same settings."""
    sentences = [
        "Tuning: no loss had a search over hyperparameters in this study; each ran once for each seed with the "
        "settings that the study file gives it."
    ]
    if outline.search is not None:
        sentences = [f"Tuning: {search_in_words(outline)}"]
    if outline.tuned is not None:
        keys = dict.fromkeys(key for settings in outline.tuned.rows.values() for key in settings)
        sentences = [
            f"Tuning: on each dataset and encoder the losses have {' and '.join(map(_in_words, keys))} of their own, "
            f"chosen in an earlier search ({outline.tuned.by})."
        ]
    if "linear" in outline.readouts:
        tried = prod(
            len(outline.linear_evaluation.get(key, [None])) for key in ("learning_rates", "weight_decays")
        )
        sentences.append(
            f"Linear evaluation chooses among {tried} settings of its heads on validation, for all losses alike."
        )
    return " ".join([*sentences, _budgets(outline)])


def search_in_words(outline: Outline) -> str:
    """How a study searched for settings, and that all losses had the same budget."""
    search = outline.search
    assert search is not None
    own = "; ".join(f"{loss} {', '.join(map(_in_words, space))}" for loss, space in search.losses.items())
    return (
        f"On each dataset and encoder every loss had {search.trials} trials ({search.method} search) of the same space "
        f"({', '.join(_in_words(key) for key in search.space)}; a loss takes of it what it has), drawn alike for all"
        + (f", and on top of it for single losses: {own}" if own else "")
        + f". Trials have a seed of their own and are judged by {metric_info(search.metric).title} on validation, "
        f"readout {search.readout}; the best one's settings then run with the study's seeds."
    )


def _budgets(outline: Outline) -> str:
    differences = list(_differences(outline))
    if not differences:
        but = " but for what was tuned" if outline.tuned is not None else ""
        return f"Budgets are equal: with the same encoder, all losses have the same training settings{but}."
    more = f"; and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
    return f"Budgets are not equal: {'; '.join(differences[:MOST_NAMED])}{more}."


def _differences(outline: Outline) -> Iterator[str]:
    """Settings in which losses differ that all of them have: those of some protocols alone are no matter of budget."""
    several = len({encoder for _, encoder in _pairs(outline)}) > 1
    for encoder in dict.fromkeys(encoder for _, encoder in _pairs(outline)):
        settings = {loss: outline.training_of(loss, encoder) for loss in outline.losses}
        shared = [
            key for key in next(iter(settings.values())) if all(key in values for values in settings.values())
        ]
        where = f" with {encoder}" if several else ""
        for key in shared:
            usual = Counter(str(values[key]) for values in settings.values()).most_common(1)[0][0]
            others: dict[str, list[str]] = {}
            for loss, values in settings.items():
                if str(values[key]) != usual:
                    others.setdefault(str(values[key]), []).append(loss)
            for value, losses in others.items():
                yield f"{_in_words(key)} {value} for {', '.join(losses)}{where}, {usual} for the others"


def _pairs(outline: Outline) -> list[tuple[str, str]]:
    """Each loss with each encoder of the grid."""
    encoders = dict.fromkeys(encoder for _, encoder in outline.columns() if encoder != NO_ENCODER)
    return [(loss, encoder) for loss in outline.losses for encoder in encoders or [NO_ENCODER]]


def _rule_in_words(rule: Any) -> str:
    """`last`, `best_val_loss` or `best_val_<metric>`."""
    if rule == "last":
        return "the weights of the last epoch are evaluated"
    if rule == "best_val_loss":
        return "the weights of the epoch with the lowest validation loss are evaluated"
    if str(rule).startswith("best_val_"):
        metric = metric_info(str(rule).removeprefix("best_val_"))
        return f"the weights of the epoch with the best validation {metric.title} are evaluated"
    return f"weights chosen by '{rule}'"


def _in_words(key: str) -> str:
    return key.replace("_", " ")
