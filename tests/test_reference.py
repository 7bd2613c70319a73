"""docs/reference is what its command makes of the models, sources and commands, and misses none of them."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from data_prep import registry
from data_prep.planning import check
from mlcl import cli
from mlcl.cli import app
from mlcl.study.attributes import Attribute, attributes_of
from mlcl.training.settings import ComputeSettings, TrainingSettings
from tests import scripts

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return scripts.load("docs/make_reference.py")


def test_the_pages_are_up_to_date(script: ModuleType) -> None:
    for name, text in script.pages().items():
        page = ROOT / "docs/reference" / name
        assert page.read_text(encoding="utf-8") == text, f"{name}: run: python docs/make_reference.py"


def test_every_source_and_setting_is_there(script: ModuleType) -> None:
    page = script.datasets_page()
    for stem in registry.stems():
        assert f"### `{stem}`\n" in page
        for key in registry.load(stem).settings.model_fields.keys() - {"set"}:
            assert f"| `{key}` |" in page, f"{stem}.{key}"


def test_the_examples_are_valid(script: ModuleType) -> None:
    for stem, settings in script.OWN_EXAMPLES.items():
        assert check(stem, settings).settings.items() >= settings.items()


def test_every_setting_of_a_source_says_what_it_is() -> None:
    for stem in registry.stems():
        for attribute in attributes_of(registry.load(stem).settings):
            # A `seed` in code that makes data says itself; a description there would make the data anew.
            assert attribute.description or attribute.name in ("set", "seed"), f"{stem}.{attribute.name}"


def test_every_command_is_there(script: ModuleType) -> None:
    page = script.commands_page()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"### `mlcl {command.callback.__name__}" in page


def test_options_are_spelt_as_the_command_line_takes_them(script: ModuleType) -> None:
    sections = script.commands_page().split("### `mlcl ")[1:]
    shown = {
        part.split("`")[0].split()[0]: set(re.findall(r"^\| `(--[^`]+)`", part, re.M)) for part in sections
    }
    for name, command in cli.command().commands.items():
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        assert shown[name] == {", ".join(o.opts) for o in options if o.name != "help"}, name


def test_types_defaults_and_docstrings_in_words() -> None:
    by_name = {a.name: a for model in (TrainingSettings, ComputeSettings) for a in attributes_of(model)}
    assert by_name["threads"] == Attribute(
        "threads",
        "whole number > 0",
        "1",
        "CPU threads of a cell. Results depend on the number, so it is never taken from `--cores`.",
    )
    assert by_name["warmup"].type == "number ≥ 0, < 1"
    assert by_name["optimizer"].type == "adam | adamw | sgd"
    assert by_name["gradient_clip"].type == "number > 0 | none"
