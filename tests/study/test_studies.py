"""The studies that come along: whole without data, small ones like their big ones, every key explained."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml

from mlcl import encoders
from mlcl.encoders import catalog
from mlcl.reporting.specs import read_papers
from mlcl.study import config
from mlcl.study.estimate import work
from mlcl.study.plan import Plan, make_plan
from mlcl.training import protocols, settings

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "config" / "studies"
PAPERS = {
    "comprehensive_vision": "comprehensive",
    "comprehensive_text": "comprehensive",
    "simdissim": "simdissim",
    "kmcl": "kmcl",
    "kmcl_448": "kmcl",
    "mulsupcon": "mulsupcon",
}
"""Study -> the paper whose table it fills."""
SMALL = sorted(file.stem.removesuffix("_small") for file in STUDIES.glob("*_small.yaml"))


@cache
def planned(name: str) -> Plan:
    return make_plan(STUDIES / f"{name}.yaml", ROOT / "no-data-needed")


def protocols_of(made: Plan) -> dict[tuple[str, str], str]:
    """(loss, variant) -> protocol"""
    return {(p.cell.id.loss, p.cell.id.variant): p.cell.settings.protocol for p in made.cells}


def test_the_default_study_has_the_settings_that_its_search_chose() -> None:
    chosen = json.loads((ROOT / "results/reference/default_search/chosen.json").read_text())
    tuned = config.load_study(ROOT / "config/default.yaml").tuned
    assert tuned is not None
    assert tuned.rows == {row: choice["settings"] for row, choice in chosen.items()}


def test_the_search_of_the_default_study_searched_what_that_study_runs() -> None:
    """The same losses, datasets, encoders and training; other seeds."""
    default, search = (
        config.load_study(f) for f in (ROOT / "config/default.yaml", STUDIES / "default_search.yaml")
    )
    for part in ("datasets", "encoders", "losses", "training", "linear_evaluation", "readouts"):
        assert getattr(default, part) == getattr(search, part), part
    assert search.search is not None
    assert search.search.seed not in default.seeds


def test_every_paper_has_a_small_study() -> None:
    assert set(SMALL) == set(PAPERS) - {"kmcl_448"}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_study_has_the_losses_and_protocols_of_the_big_one(name: str) -> None:
    big, small = planned(name), planned(f"{name}_small")
    assert protocols_of(big) == protocols_of(small)
    assert big.study.baselines == small.study.baselines
    for loss, entry in big.study.losses.items():
        assert entry.hyperparameters == small.study.losses[loss].hyperparameters
    assert set(small.study.encoders) & {"cnn", "mlp", "transformer"} == set(small.study.encoders)


def test_kmcl_at_448_is_kmcl_but_for_encoder_and_size() -> None:
    first, second = planned("kmcl"), planned("kmcl_448")
    assert protocols_of(first) == protocols_of(second)
    assert first.study.losses == second.study.losses
    assert {name: entry.settings | {"size": 448} for name, entry in first.study.datasets.items()} == {
        name: entry.settings for name, entry in second.study.datasets.items()
    }


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_s_table_finds_its_rows_in_the_study(name: str) -> None:
    spec, _ = read_papers(ROOT / "paper_tables" / "specs")[PAPERS[name]]
    outline = planned(name).outline()
    for loss, entry in spec.losses.items():
        assert set(entry.names) & set(outline.losses), loss
    encoders_of_paper = [
        wanted
        for wanted in spec.encoders.values()
        for own in outline.encoders.values()
        if own.encoder in wanted.names and wanted.settings.items() <= own.settings.items()
    ]
    assert len(encoders_of_paper) == len(outline.encoders)
    (of_datasets,) = {tuple(wanted.dataset_settings.items()) for wanted in encoders_of_paper}
    found = {
        own.name
        for wanted in spec.datasets.values()
        for own in outline.datasets.values()
        if own.source in wanted.names
        and (wanted.settings | dict(of_datasets)).items() <= own.settings.items()
    }
    official = {"voc2007", "coco2014"} if name == "comprehensive_vision" else set()
    assert found == set(outline.datasets) - official, "the official splits are not the paper's"


@pytest.mark.parametrize("name", [*PAPERS, *(f"{name}_small" for name in SMALL)])
def test_the_header_says_how_to_run_it(name: str) -> None:
    text = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8")
    header = text[: text.index("title:")]
    assert f"--config study=config/studies/{name}.yaml data_root=" in header
    assert re.search(r"\d+ (hours|minutes)", header)


@pytest.mark.parametrize("name", PAPERS)
def test_what_the_paper_leaves_open_is_marked(name: str) -> None:
    assert "open:" in (STUDIES / f"{name}.yaml").read_text(encoding="utf-8")


def fields_of_studies() -> list[str]:
    """Every key that a study may have, but for those of sources and losses."""
    models = [
        config.DatasetEntry,
        config.EncoderEntry,
        config.LossEntry,
        config.VariantEntry,
        config.TableSettings,
        settings.ComputeSettings,
        settings.LinearEvaluationSettings,
        settings.KnnEvaluationSettings,
        *(module.Settings for name in protocols.names() if (module := protocols.load(name)).Settings),
        *(encoders.describe(name).settings for name in encoders.names()),
        catalog.TokenizerSettings,
        catalog.LoraSettings,
    ]
    fields = {field for model in models for field in model.model_fields}
    fields |= config.Study.model_fields.keys() - {"name", "file"}
    return sorted(fields - {"modality", "settings", "hyperparameters"})


@pytest.mark.parametrize("field", fields_of_studies())
def test_every_key_is_explained(field: str) -> None:
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"`(\w*\.)?{field}`", text), f"config/README.md says nothing of `{field}`"


@pytest.mark.parametrize("name", protocols.names())
def test_every_protocol_is_explained(name: str) -> None:
    assert f"`{name}`" in (ROOT / "config" / "README.md").read_text(encoding="utf-8")


def test_the_defaults_in_the_explanation_are_the_protocols_own() -> None:
    """The table of training settings, read back."""
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    lines = text[text.index("| key | meaning | `contrastive_linear`") :].split("\n\n")[0].splitlines()
    columns = [re.findall(r"`(\w+)`", cell) for cell in lines[0].strip("|").split("|")[2:]]
    checked = 0
    for line in lines[2:]:
        key, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for names, told in zip(columns, cells, strict=True):
            for name in names:
                fields = protocols.load(name).Settings.model_fields
                field = key.strip("`")
                if field in fields and (not re.search(r"`", told) or f"`{name}`" in told):
                    default = fields[field].default
                    plain = told.split(" (")[0].removesuffix(": all")
                    shown = None if plain == "none" else yaml.safe_load(re.sub(r"^(\d)e", r"\1.0e", plain))
                    assert shown == default, (name, field)
                    checked += 1
    assert checked > 60


def test_names_of_losses_inputs_are_all_there() -> None:
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    for inputs in get_args(config.Inputs):
        assert f"| `{inputs}` | `{protocols.DEFAULT[inputs]}` |" in text


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_study_is_listed(file: Path) -> None:
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    assert f"{file.stem.removesuffix('_small')}.yaml`" in text


@pytest.mark.parametrize("name", ["mulsupcon", "mulsupcon_small"])
def test_mulsupcon_s_bce_has_the_released_recipe_which_is_that_of_the_fine_tuning(name: str) -> None:
    recipe = protocols.load("momentum_queue").Finetuning().model_dump(mode="json")
    assert (recipe["epochs"], recipe["steps_per_epoch"], recipe["batch_size"]) == (30, 50, 32)
    assert recipe["selection"] == "best_val_loss"
    cells = [p.cell for p in planned(name).cells if p.cell.id.loss == "bce" and p.cell.id.variant == "base"]
    assert cells
    for cell in cells:
        assert cell.settings.training is not None
        assert {key: cell.settings.training.get(key, value) for key, value in recipe.items()} == recipe


@pytest.mark.parametrize("name", [study for study in PAPERS if study.startswith("comprehensive")])
def test_the_comprehensive_study_chooses_a_label_s_setting_by_the_ensemble(name: str) -> None:
    for study in (name, f"{name}_small"):
        grids = [p.cell.settings.linear_evaluation for p in planned(study).cells]
        assert {grid.choose for grid in grids if grid} == {"ensemble"}


def test_a_tenth_of_the_data_is_trained_for_as_many_steps_as_all_of_it() -> None:
    """VOC2007 has 2,501 training images: 720 steps of 256, where 80 epochs of a tenth of them would be 80 steps."""
    made = planned("comprehensive_vision")
    for loss in ("bce", "reg"):
        base, tenth = (
            made.by_id[f"voc2007/resnet50/{loss}/{v}/seed0"].cell.settings for v in ("base", "tenth")
        )
        assert work(base, 2501).steps == work(tenth, 250).steps == 720
        assert tenth.training is not None
        cut = tenth.model_copy(update={"training": {**tenth.training, "steps_per_epoch": None}})
        assert work(cut, 250).steps == 80
        assert (tenth.dataset.subset.fraction, tenth.dataset.subset.val_fraction) == (0.1, 0.1)
    for name in ("comprehensive_text", "comprehensive_text_small", "comprehensive_vision_small"):
        assert planned(name).study.variants["tenth"] == made.study.variants["tenth"]


def test_settings_that_came_later_are_no_part_of_a_cell_at_the_value_that_they_had_before() -> None:
    """So that records that were made without them stay current."""
    assert "choose" not in settings.LinearEvaluationSettings().model_dump()
    assert settings.LinearEvaluationSettings(choose="ensemble").model_dump()["choose"] == "ensemble"
    assert "val_fraction" not in settings.SubsetSettings(fraction=0.5).model_dump(mode="json")
    assert settings.SubsetSettings(val_fraction=0.5).model_dump()["val_fraction"] == 0.5


@pytest.mark.parametrize("name", ["kmcl", "kmcl_448", "kmcl_small"])
def test_in_kmcl_s_studies_validation_chooses_between_averaged_and_plain_weights(name: str) -> None:
    trained = [p.cell.settings.training for p in planned(name).cells if p.cell.settings.loss]
    assert {each["ema_evaluation"] for each in trained if each} == {"best_val_map"}
