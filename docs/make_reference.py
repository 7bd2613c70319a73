"""Writes docs/reference/: every data source, every key of a study, every command, with types and defaults.

    python docs/make_reference.py

Made from the models that check a study, from the declarations of the sources and from the commands themselves; a test
compares the pages with what this makes (tests/test_reference.py).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
import yaml
from typer.models import ArgumentInfo

from data_prep import registry
from data_prep.source import About, Source
from mlcl import encoders, losses
from mlcl.cli import app
from mlcl.study.attributes import Attribute, attributes_of
from mlcl.study.config import (
    DatasetEntry,
    EncoderEntry,
    LossEntry,
    Study,
    TableSettings,
    TunedSettings,
    VariantEntry,
)
from mlcl.study.schema import training_models
from mlcl.study.search import SearchSettings
from mlcl.training.settings import ComputeSettings, KnnEvaluationSettings, LinearEvaluationSettings

FOLDER = Path(__file__).parent / "reference"
MADE = "*Made by `python docs/make_reference.py`; do not edit.*"
OWN_EXAMPLES: Mapping[str, dict[str, Any]] = {
    "table": {"path": "reviews.csv", "text": "text", "label_list": "tags", "separator": ";"},
    "images": {"folder": "photos", "coco": "instances.json"},
    "vectors": {"path": "features.npy", "labels_path": "labels.npy"},
    "arff": {"path": "yeast.arff", "xml": "yeast.xml"},
    "svmlight": {"path": "train.txt", "test_path": "test.txt"},
    "huggingface": {"path": "my_dataset", "text": "text", "labels": "labels"},
}
"""What the user's own data needs; these are checked as a study's settings are."""
SECTIONS: Mapping[str, tuple[type, str]] = {
    "datasets.<name>": (DatasetEntry, "and the settings of its source ([data sources](datasets.md))"),
    "encoders.<modality>.<name>": (EncoderEntry, "and the settings of the encoder (below)"),
    "losses.<name>": (LossEntry, "and the hyperparameters of the loss (below)"),
    "variants.<name>": (VariantEntry, "each a mapping of what differs from the study"),
    "search": (SearchSettings, ""),
    "tuned": (TunedSettings, ""),
    "linear_evaluation": (LinearEvaluationSettings, ""),
    "knn_evaluation": (KnnEvaluationSettings, ""),
    "compute": (ComputeSettings, ""),
    "table": (TableSettings, ""),
}
NAMES = {"name", "source"}
"""What an entry is, where its key is a name of one's own."""
TYPES = {str: "text", Path: "path", bool: "switch", int: "whole number", float: "number"}
INTERNAL = {"settings", "hyperparameters", "modality"}
"""Fields of the entries that a file writes in another way: what they hold stands beside the other keys."""


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"datasets.md": datasets_page(), "study.md": study_page(), "cli.md": commands_page()}


def datasets_page() -> str:
    parts = [
        "# Data sources\n",
        MADE,
        "\nEvery source with all its settings. In a study they stand under the dataset's name (`datasets: {goemotions: "
        '{cleaning: plain}}`), in Python they are keywords (`mlcl.prepare("goemotions", cleaning="plain")`). Your own '
        "data: the sources of the first section; examples of each: [your own data](../your_data.md). Raw files lie in "
        "the data root, in a folder of the source's name unless it is said otherwise.\n",
        "## Your own data\n",
    ]
    parts += [_source(stem) for stem in OWN_EXAMPLES]
    parts.append("## Published datasets\n")
    parts += [_source(stem) for stem in registry.stems() if stem not in OWN_EXAMPLES]
    return "\n".join(parts)


def _source(stem: str) -> str:
    source = registry.load(stem)
    name = f"{stem}_{source.members[0]}" if source.members else stem
    lines = [f"### `{stem}`\n"]
    if source.members:
        listed = ", ".join(f"`{stem}_{member}`" for member in source.members)
        lines.append(f"A family: {listed}.\n")
    about = _about(source, stem)
    if about is not None:
        lines.append(f"{about.title}. {about.citation}\n")
        lines.append(f"Terms: {about.licence}\n")
        if about.by_hand:
            lines.append(f"By hand: {about.by_hand}.\n")
    else:
        lines.append(f"{_first_line(source.settings.__doc__)}\n")
    modality = source.modality if isinstance(source.modality, str) else "as its settings say"
    lines.append(f"Modality: {modality}.\n")
    preset = registry.find(name).preset
    lines += _table(a for a in attributes_of(source.settings) if a.name not in preset)
    example = {"datasets": {name: None}}
    if stem in OWN_EXAMPLES:
        example = {"datasets": {"mine": {"source": stem, **OWN_EXAMPLES[stem]}}}
    lines += ["```yaml", yaml.safe_dump(example, sort_keys=False).replace(" null", "").rstrip(), "```\n"]
    return "\n".join(lines)


def _about(source: Source, stem: str) -> About | None:
    """What is known of the dataset with its default settings; None for the user's own data."""
    if stem in OWN_EXAMPLES:
        return None
    if isinstance(source.about, About):
        return source.about
    given = {"set": source.members[0]} if source.members else {}
    return source.about(source.settings(**given))


def study_page() -> str:
    own = [attribute for attribute in attributes_of(Study) if attribute.name not in ("name", "file")]
    parts = [
        "# Keys of a study\n",
        MADE,
        "\nAll keys with types and defaults, as the models that check a study have them. What they are for, with "
        "examples: [studies](../../config/README.md). Editors that know the YAML language server complete and check "
        "them by the first line of each shipped study; `mlcl schema` writes the file that it names.\n",
        *_table(
            replace(a, default="below") if a.name in SECTIONS and a.default != "none" else a for a in own
        ),
        "`datasets`, `losses` and the encoders of a modality may also be lists of names: `losses: [bce, reg]`.\n",
    ]
    for key, (model, more) in SECTIONS.items():
        parts.append(f"## `{key}`\n")
        parts += [f"{more[0].upper()}{more[1:]}.\n"] if more else []
        rows = [a for a in attributes_of(model) if a.name not in INTERNAL]
        parts += _table(
            replace(a, default="its key") if a.name in NAMES and "<name>" in key else a for a in rows
        )
    parts += ["## `training`\n", "A study may mix protocols; each takes the keys that it knows.\n"]
    for name, model in training_models().items():
        parts += [f"### {name}\n", *_table(attributes_of(model))]
    parts += ["## Encoders\n"]
    families = dict.fromkeys(encoders.describe(name).name for name in encoders.names())
    for family in families:
        info = encoders.describe(family)
        parts += [f"### `{family}` ({info.modality})\n", f"{_first_line(info.settings.__doc__)}\n"]
        short = [name for name in encoders.names() if encoders.describe(name).name == family != name]
        if short:
            parts.append(
                textwrap.fill(f"Short names: {', '.join(f'`{name}`' for name in short)}.", 118) + "\n"
            )
        parts += _table(attributes_of(info.settings))
    parts += ["## Losses\n", "More on each: [losses](../losses.md).\n"]
    parts += ["| loss | hyperparameters and defaults | conditions |", "|---|---|---|"]
    for name in losses.names():
        loss = losses.describe(name)
        values = ", ".join(f"`{key}: {_yaml(value)}`" for key, value in loss.hyperparameters.items())
        parts.append(f"| `{name}` | {values} | {', '.join(f'`{text}`' for text in loss.allowed.values())} |")
    return "\n".join([*parts, ""])


def commands_page() -> str:
    parts = [
        "# Command line\n",
        MADE,
        "\n`mlcl COMMAND --help` says the same. `mlcl -v COMMAND` also prints what the code logs; `mlcl "
        "--install-completion` lets the shell complete commands and options.\n",
    ]
    by_panel: dict[str, list[Callable[..., Any]]] = {}
    for command in app.registered_commands:
        assert command.callback is not None
        by_panel.setdefault(str(command.rich_help_panel), []).append(command.callback)
    for panel, commands in by_panel.items():
        parts.append(f"## {panel}\n")
        for each in commands:
            parts += list(_command(each))
    return "\n".join(parts)


def _command(command: Callable[..., Any]) -> Iterator[str]:
    """From its signature: arguments, then options."""
    hints = get_type_hints(command, include_extras=True)
    shown = []
    for name, parameter in inspect.signature(command).parameters.items():
        annotation = hints[name]
        kind, info = (
            get_args(annotation) if get_origin(annotation) is Annotated else (annotation, typer.Option())
        )
        if not info.hidden:
            shown.append((name, kind, info, parameter.default))
    arguments = [each for each in shown if isinstance(each[2], ArgumentInfo)]
    options = [each for each in shown if not isinstance(each[2], ArgumentInfo)]
    words = [
        name.upper() if default is inspect.Parameter.empty else f"[{name.upper()}]"
        for name, _, _, default in arguments
    ]
    yield f"### `mlcl {' '.join([command.__name__, *words])}`\n"
    yield " ".join((command.__doc__ or "").split()) + "\n"
    if not shown:
        return
    yield "| | type | default | |"
    yield "|---|---|---|---|"
    for each in arguments:
        yield _parameter(each[0].upper(), *each[1:])
    for name, kind, info, default in options:
        yield _parameter(", ".join(_spellings(name, info)), kind, info, default)
    yield ""


def _spellings(name: str, info: Any) -> list[str]:
    """How an option is written: as declared (`Annotated` puts the first spelling in the place of the default)."""
    declared = [each for each in (info.default, *info.param_decls) if isinstance(each, str)]
    return declared or [f"--{name.replace('_', '-')}"]


def _parameter(name: str, kind: Any, info: Any, default: Any) -> str:
    if get_origin(kind) is Literal:
        words = " | ".join(map(str, get_args(kind)))
    else:
        inner = [each for each in get_args(kind) if each is not type(None)]
        plain = inner[0] if inner else kind
        words = TYPES[plain] + (", several" if get_origin(kind) is list else "")
    shown = "required" if default is inspect.Parameter.empty else "" if default is None else _yaml(default)
    return f"| `{name}` | {_escaped(words)} | {_escaped(shown)} | {_escaped(info.help or '')} |"


def _table(attributes: Iterable[Attribute]) -> list[str]:
    rows = [
        f"| `{a.name}` | {_escaped(a.type)} | {_code(a.default)} | {_escaped(a.description)} |"
        for a in attributes
    ]
    if not rows:
        return ["It has no settings.\n"]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]


def _code(default: str) -> str:
    return default if default in ("required", "none", "its key", "below") else f"`{default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _first_line(doc: str | None) -> str:
    return " ".join((doc or "").strip().split("\n\n")[0].split())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
