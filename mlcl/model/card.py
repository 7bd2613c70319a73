"""The model card: what a model is, what it was trained on, its metrics and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from mlcl.model.config import THRESHOLD, ModelConfig

MOST_LABELS = 50
"""Largest number of rows in the table of labels; `config.json` has all labels."""
METRICS = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "samples_f1": "sample F1",
    "subset_accuracy": "subset accuracy",
    "map": "mAP",
    "ece": "ECE",
    "micro_f1_tuned": "micro-F1, tuned thresholds",
    "macro_f1_tuned": "macro-F1, tuned thresholds",
}
RULES = {
    "last": "the weights of the last epoch",
    "best_val_micro_f1": "the weights of the epoch with the best micro-F1 on validation",
    "best_val_loss": "the weights of the epoch with the lowest loss on validation",
    None: "the encoder as it was before training",
}
READOUTS = {
    "head": "the linear head that was trained together with the encoder",
    "linear": "linear heads on the frozen features, whose probabilities are averaged",
    "knn": "the labels of the nearest training rows",
}
EXAMPLES = {
    "text": ("texts.txt", '["a first text", "another one"]'),
    "image": ("photos/", '["photos/1.jpg", "photos/2.jpg"]'),
    "vector": ("vectors.npy", 'numpy.load("vectors.npy")'),
}
TEMPLATE = """\
---
library_name: mlcl
tags:
- multi-label-classification
---

# {{ trained.study }}: {{ trained.cell }}

A multi-label classifier of {{ modality }}s: {{ labels | length }} labels, the encoder `{{ trained.encoder }}`,
{% if trained.loss %}trained with the loss `{{ trained.loss.name }}` by the protocol `{{ trained.protocol }}`{% else -%}
not trained (protocol `{{ trained.protocol }}`){% endif %}, seed {{ trained.seed }}. Input:
{{ takes }}. Scores come from {{ readouts[readout] }} (readout `{{ readout }}`).
{% if others %}

Also in the folder, for `--readout` or `load_model(..., readout=...)`:
{% for name in others %}
- `{{ name }}`: {{ readouts[name] }}
{% endfor %}
{% endif %}

## Data

{{ data.title or data.name }}: {{ data.splits.train.examples }} training rows
{%- if trained.subset.fraction != 1 %}, of which {{ "%.4g" | format(100 * trained.subset.fraction) }} % were used
{%- endif %}, {{ data.splits.val.examples }} for validation, {{ data.splits.test.examples }} for the test;
{{ "%.2f" | format(data.splits.train.cardinality) }} labels a row.
{% if data.citation %}

Source: {{ data.citation }}
{% endif %}

Licence and terms of the data: {{ data.terms or "the dataset's card states none." }}
They may restrict the use of a model that was trained on it.

## Labels

| label | training rows | share | tuned threshold |
|---|---:|---:|---:|
{% for row in rows %}
| {{ row.label }} | {{ row.count }} | {{ "%.2f" | format(100 * row.share) }} % | {{ "%.3g" | format(row.threshold) }} |
{% endfor %}
{% if rows | length < labels | length %}

The {{ rows | length }} most frequent of {{ labels | length }}; `config.json` has all names and thresholds.
{% endif %}

Thresholds: {{ fixed }} for all labels, or tuned: for each label the one with the best F1 on validation
({{ fixed }} for a label without a positive there). A label is predicted if its score is above its threshold.

## Metrics

Selection: {{ rule }}. The test set was scored once.

| metric | validation | test |
|---|---:|---:|
{% for row in metrics %}
| {{ row.title }} | {{ row.val }} | {{ row.test }} |
{% endfor %}

Values are fractions, at the threshold {{ fixed }} unless the name says otherwise. `config.json` has all metrics of the
record.

## Use

    mlcl predict FOLDER {{ example[0] }} --out predictions.csv

    from mlcl.model import load_model

    model = load_model("FOLDER")
    scores = model.predict({{ example[1] }})  # (rows, {{ labels | length }})
    chosen = model.decide(scores, "tuned")

## Limits

- The model was made for a comparison of losses on this dataset and was not tested on other data.
- It predicts these labels only. The metric ECE measures how well its scores are calibrated.
{% if unseen %}
- Labels without a positive in training, whose scores are meaningless: {{ unseen | join(", ") }}.
{% endif %}
{% if modality == "text" and cleaning is none %}
- Texts are not cleaned. Where the preparation of the dataset changes its texts, new texts need the same changes.
{% endif %}
{% if modality == "vector" %}
- A vector must have the columns of the prepared dataset, in their order and on their scale.
{% endif %}
{% if holds_training_rows %}
- `model.safetensors` contains the features and labels of all training rows: sharing the model shares them.
{% endif %}

Fingerprint of the cell: `{{ trained.fingerprint }}`
"""


def render(config: ModelConfig, data: Mapping[str, Any], selection: str | None) -> str:
    """The card as Markdown. `data`: the card of the prepared dataset; `selection`: the record's rule of selection."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    counts, examples = data["splits"]["train"]["label_counts"], data["splits"]["train"]["examples"]
    used = config.readouts[config.readout]
    thresholds = used.thresholds or [THRESHOLD] * len(config.labels)
    rows = [
        {"label": _cell(label), "count": counts[label], "share": counts[label] / examples, "threshold": limit}
        for label, limit in zip(config.labels, thresholds, strict=True)
    ]
    rows.sort(key=lambda row: -int(row["count"]))
    return environment.from_string(TEMPLATE).render(
        modality=config.modality,
        labels=config.labels,
        trained=config.trained,
        cleaning=config.cleaning,
        takes=_input(config),
        readouts=READOUTS,
        readout=config.readout,
        others=[name for name in config.readouts if name != config.readout],
        holds_training_rows="knn" in config.readouts,
        data=data,
        rows=rows[:MOST_LABELS],
        fixed=THRESHOLD,
        rule=RULES.get(selection, selection),
        metrics=_metrics(used.metrics),
        example=EXAMPLES[config.modality],
        unseen=[label for label in config.labels if counts[label] == 0],
    )


def _input(config: ModelConfig) -> str:
    inputs, settings = config.encoder.inputs, config.encoder.settings
    match config.modality:
        case "text":
            chunks = settings.get("max_chunks", 1)
            tokens = f"{settings['max_length']} tokens"
            return f"the first {f'{chunks} chunks of {tokens}' if chunks > 1 else tokens} of a text"
        case "image":
            colour = "grey" if inputs["channels"] == 1 else "RGB"
            return (
                f"{colour} images, whose sides are scaled to {inputs['height']} × {inputs['width']} pixels "
                "(bilinear, antialiased)"
            )
        case _:
            return f"vectors of {inputs['dimensions']} numbers"


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    return [
        {"title": title, **{split: _number(metrics.get(split, {}).get(name)) for split in ("val", "test")}}
        for name, title in METRICS.items()
        if any(name in values for values in metrics.values())
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    """The text, escaped for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
