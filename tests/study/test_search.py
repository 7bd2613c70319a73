"""Search: equal draws for all losses, trials as cells, the choice, and what follows from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import ConfigError, MlclError
from mlcl.records.outline import SearchOutline, Trial, open_study
from mlcl.records.paths import CellId
from mlcl.records.record import Record, write_record
from mlcl.records.search import choose
from mlcl.records.status import study_status
from mlcl.study.plan import Plan, PlannedCell, make_plan
from mlcl.study.search import SearchSettings, draw

STUDY: dict[str, Any] = {
    "title": "A study",
    "seeds": [0, 1],
    "datasets": {"digit_scenes": {"train": 100}},
    "encoders": {"image": {"cnn": {}}},
    "losses": {"bce": {}, "jaccard": {}, "asl": {}},
    "baselines": ["label_prior"],
    "search": {
        "trials": 3,
        "space": {
            "learning_rate": {"log_uniform": [0.001, 0.1]},
            "epochs": [2, 4, 8],
            "temperature": [0.1, 0.2],
        },
        "losses": {"asl": {"gamma_neg": {"uniform": [1, 4]}}},
    },
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(**changes: Any) -> Plan:
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY | changes, sort_keys=False))
    return make_plan(Path("mine.yaml"))


def make(planned: PlannedCell, value: float | None) -> None:
    """A current record with this mAP on validation; one that failed for None."""
    assert planned.payload is not None
    status = "ok" if value is not None else "diverged"
    metrics = {"linear": {"val": {"map": value}, "test": {"map": 0.1}}} if value is not None else {}
    result = {
        **planned.payload,
        "id": str(planned.cell.id),
        "study": "mine",
        "fingerprint": planned.fingerprint,
    }
    result |= {"status": status, "reason": None, "metrics": metrics, "metrics_source": "m"}
    folder = planned.results / str(planned.cell.id)
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / "metrics.json", Record(result, {"attempt": 1, "wall_seconds": 1.0}))


def trial(made: Plan, loss: str, number: int) -> PlannedCell:
    return made.by_id[f"digit_scenes/cnn/{loss}/trial-{number:02d}/seed1000"]


def test_the_step_of_the_choice_says_by_what_and_which_trial() -> None:
    made = plan()
    for number, value in enumerate((0.3, 0.5, 0.4)):
        make(trial(made, "jaccard", number), value)
    done = CliRunner().invoke(
        app, ["choose", "mine.yaml", "digit_scenes/cnn/jaccard"], catch_exceptions=False
    )
    assert "digit_scenes/cnn/jaccard: chosen: epochs = 2, learning_rate = " in done.output
    assert "(trial-01 of 3 trials, with mAP 50.0 on validation" in done.output


def test_all_losses_have_the_same_draws_and_as_many_trials() -> None:
    made = plan()
    drawn = {
        loss: [trial(made, loss, n).cell.settings.training for n in range(3)]
        for loss in ("bce", "jaccard", "asl")
    }
    for key in ("learning_rate", "epochs"):
        values = {loss: [own[key] for own in settings if own] for loss, settings in drawn.items()}
        assert values["bce"] == values["jaccard"] == values["asl"]
        assert len(set(values["bce"])) > 1
    assert len(made.trials) == 9
    gammas = [trial(made, "asl", n).cell.settings.loss.hyperparameters["gamma_neg"] for n in range(3)]  # type: ignore[union-attr]
    assert all(1 <= gamma <= 4 for gamma in gammas)
    assert len(set(gammas)) == 3
    assert "9 of these are trials of the search" in made.summary()


def test_draws_do_not_depend_on_other_losses_or_spaces() -> None:
    search = SearchSettings.model_validate(STUDY["search"])
    with_more = SearchSettings.model_validate(STUDY["search"] | {"losses": {"bce": {"epochs": [1, 2]}}})
    assert draw(search, "jaccard") == draw(with_more, "jaccard")
    assert draw(search, "asl") == draw(search, "asl")


def test_a_grid_has_all_combinations_and_no_number_of_trials() -> None:
    made = plan(search={"method": "grid", "space": {"learning_rate": [0.1, 0.01], "epochs": [1, 2, 3]}})
    drawn = {tuple(sorted(t.draws.items())) for t in made.trials if t.planned.cell.id.loss == "bce"}
    assert len(drawn) == 6


def test_cells_wait_until_all_trials_of_their_row_are_made_and_then_have_the_best_settings() -> None:
    made = plan()
    cells = [p for p in made.cells if p.cell.id.loss == "jaccard"]
    assert all(p.waits and p.fingerprint is None and p.state == "missing" for p in cells)
    assert not made.by_id["digit_scenes/none/label_prior/base/seed0"].waits, (
        "a baseline has nothing to choose"
    )
    for number, value in enumerate((0.3, 0.5)):
        make(trial(made, "jaccard", number), value)
    assert all(p.waits for p in plan().cells if p.cell.id.loss == "jaccard"), "one trial is missing"
    with pytest.raises(MlclError, match=r"nothing can be chosen for digit_scenes/cnn/jaccard"):
        plan().write_chosen("digit_scenes", "cnn", "jaccard")
    make(trial(made, "jaccard", 2), None)
    after = plan()
    best = trial(after, "jaccard", 1).cell.settings
    for planned in (p for p in after.cells if p.cell.id.loss == "jaccard"):
        assert not planned.waits
        assert planned.cell.settings.training == best.training
        assert planned.cell.settings.loss == best.loss
        assert planned.cell.settings.seed in (0, 1), "the search did not see these"
    assert all(p.waits for p in after.cells if p.cell.id.loss == "bce")
    choice = after.write_chosen("digit_scenes", "cnn", "jaccard")
    assert choice.value == 0.5
    request = json.loads(after.paths.request(CellId("digit_scenes", "cnn", "jaccard", "base", 0)).read_text())
    assert request["settings"]["training"] == best.training


def test_a_new_loss_adds_its_trials_and_changes_no_other() -> None:
    before = plan(losses={"jaccard": {}, "asl": {}})
    after = plan()
    fingerprints = {str(t.planned.cell.id): t.planned.fingerprint for t in before.trials}
    new = {str(t.planned.cell.id): t.planned.fingerprint for t in after.trials}
    assert {name: new[name] for name in fingerprints} == fingerprints
    assert {CellId.parse(name).loss for name in new.keys() - fingerprints.keys()} == {"bce"}


def test_a_trial_that_diverged_is_a_result_of_the_search_and_does_not_fail_the_study() -> None:
    made = plan()
    make(trial(made, "jaccard", 0), None)
    made = plan()
    made.write_outline()
    now = study_status(open_study("mine"))
    assert (now.counts.current, now.counts.failed, now.failures) == (1, 0, [])


def outline(**space: Any) -> SearchOutline:
    return SearchOutline("random", 3, 1000, "map", "linear", space, {})


def record(value: float, metric: str = "map") -> Record:
    metrics = {"linear": {"val": {metric: value}}}
    return Record({"status": "ok", "metrics": metrics}, {})


def test_the_best_is_chosen_the_first_of_equals_and_the_lowest_where_lower_is_better() -> None:
    trials = [Trial(CellId("d", "e", "l", f"trial-{n:02d}", 1000), "f", {"epochs": n}) for n in range(3)]
    search = outline(epochs=[0, 1, 2, 3, 4])
    values = list(zip(trials, map(record, (0.4, 0.6, 0.6)), strict=True))
    found = choose(search, values)
    assert found is not None
    assert found.trial == trials[1]
    for metric in ("hamming_loss", "hamming_loss_tuned"):
        losses = [(t, record(v, metric)) for t, v in zip(trials, (0.4, 0.6, 0.5), strict=True)]
        lowest = choose(replace(search, metric=metric), losses)
        assert lowest is not None
        assert lowest.trial == trials[0]
        assert lowest.edges == ("epochs: lowest",)


@pytest.mark.parametrize(
    ("given", "value", "edge"),
    [
        ({"log_uniform": [0.001, 1.0]}, 0.0011, "lowest"),
        ({"log_uniform": [0.001, 1.0]}, 0.03, None),
        ({"log_uniform": [0.001, 1.0]}, 0.9, "highest"),
        ({"uniform": [0, 10]}, 0.9, "lowest"),
        ({"uniform": [0, 10]}, 2, None),
        ([1, 2, 3], 3, "highest"),
        ([1, 2, 3], 2, None),
        ([1, 2], 2, None),
    ],
)
def test_a_choice_at_an_end_of_its_range_is_marked(given: Any, value: float, edge: str | None) -> None:
    one = Trial(CellId("d", "e", "l", "trial-00", 1000), "f", {"x": value})
    found = choose(outline(x=given), [(one, record(0.5))])
    assert found is not None
    assert found.edges == ((f"x: {edge}",) if edge else ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"search\.seed: 1 is one of the study's seeds"),
        ({"trials": None}, r"trials: a random search needs their number"),
        ({"space": {"learning_rat": [1, 2]}}, r"search\.space\.learning_rat: is no setting of training"),
        ({"space": {"epochs": {"log_uniform": [0, 5]}}}, r"epochs: log_uniform needs \[low, high\]"),
        ({"space": {"epochs": []}}, r"epochs: an empty list"),
        (
            {"losses": {"bce": {"temperature": [1, 2]}}},
            r"search\.losses\.bce\.temperature: bce has no such setting",
        ),
        ({"losses": {"reg": {"alpha": [1, 2]}}}, r"search\.losses: 'reg' is no loss of the study"),
        ({"readout": "knn"}, r"search\.readout: 'knn' is not among"),
        ({"method": "grid", "losses": {}}, r"trials: a grid has as many"),
    ],
)
def test_what_cannot_be_searched_is_an_error_that_names_the_key(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(search=STUDY["search"] | changes)


TUNED = {
    "by": "an earlier search",
    "rows": {"digit_scenes/cnn/jaccard": {"learning_rate": 0.02, "temperature": 0.05}},
}


def tuned_plan(rows: dict[str, Any] | None = None, **changes: Any) -> Plan:
    study = {key: value for key, value in STUDY.items() if key != "search"}
    tuned = TUNED if rows is None else {**TUNED, "rows": rows}
    Path("mine.yaml").write_text(yaml.safe_dump(study | {"tuned": tuned} | changes, sort_keys=False))
    return make_plan(Path("mine.yaml"))


def test_tuned_settings_are_those_of_their_row_and_variants_change_them() -> None:
    planned = tuned_plan(variants={"hot": {"loss": {"temperature": 0.7}}})
    settings = {
        (p.cell.id.loss, p.cell.id.variant): p.cell.settings for p in planned.cells if p.cell.id.seed == 0
    }
    jaccard, hot, asl = settings["jaccard", "base"], settings["jaccard", "hot"], settings["asl", "base"]
    assert (jaccard.training["learning_rate"], jaccard.loss.hyperparameters["temperature"]) == (0.02, 0.05)
    assert (hot.training["learning_rate"], hot.loss.hyperparameters["temperature"]) == (0.02, 0.7)
    assert asl.training["learning_rate"] != 0.02
    assert planned.outline().tuned.rows == TUNED["rows"]


def test_only_the_tuned_row_is_made_anew() -> None:
    before = {str(p.cell.id): p.fingerprint for p in tuned_plan().cells}
    rows = {"digit_scenes/cnn/jaccard": {"learning_rate": 0.03, "temperature": 0.05}}
    after = {str(p.cell.id): p.fingerprint for p in tuned_plan(rows).cells}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"digit_scenes/cnn/jaccard/base/seed{seed}" for seed in (0, 1)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"digit_scenes/cnn/jacard": {"learning_rate": 0.1}},
            "tuned.rows.digit_scenes/cnn/jacard: is no .*did you mean",
        ),
        ({"jaccard": {"learning_rate": 0.1}}, "a row is named dataset/encoder/loss"),
        ({"digit_scenes/cnn/bce": {"temperature": 0.1}}, "bce.temperature: bce has no such setting"),
        ({"digit_scenes/cnn/bce": {"learning_rate": -1}}, "tuned.rows.digit_scenes/cnn/bce.learning_rate"),
        (
            {"digit_scenes/cnn/jaccard": {"temperature": -1.0}},
            "tuned.rows.digit_scenes/cnn/jaccard: .*temperature",
        ),
    ],
)
def test_a_tuned_row_that_is_wrong(rows: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tuned_plan(rows)


def test_search_and_tuned_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="leave one of search and tuned out"):
        plan(tuned=TUNED)
