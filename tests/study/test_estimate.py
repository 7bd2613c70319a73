"""What a study will cost: arithmetic done by hand, and on what each figure rests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from data_prep.format import TEXT_OFFSETS
from mlcl import encoders
from mlcl.records.paths import StudyPaths
from mlcl.records.record import Record, write_record
from mlcl.study.estimate import (
    START_UP_SECONDS,
    STEP_SECONDS,
    Comparison,
    Device,
    Estimate,
    estimate,
    training_passes,
    work,
)
from mlcl.study.plan import Plan, make_plan
from mlcl.study.sizes import published_rows

COST = encoders.Cost(parameters=1000, forward_flops_per_example=1e6, feature_dim=8)
SLOW = Device(tflops=1e-3, utilisation=0.5)
"""5e8 operations a second: so slow that no step is too small to count."""
STUDY = {
    "title": "A study",
    "seeds": [0, 1],
    "datasets": {"digit_scenes": {"train": 100, "val": 20, "test": 30}},
    "encoders": {"image": {"cnn": None}},
    "losses": {"bce": None, "jaccard": None},
    "baselines": ["label_prior"],
    "training": {"epochs": 2, "batch_size": 10},
    "linear_evaluation": {
        "learning_rates": [0.1],
        "weight_decays": [0.01],
        "heads": 2,
        "epochs": 5,
        "batch_size": 50,
    },
}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Encoders of a known cost; results in a folder of their own."""
    monkeypatch.setattr(encoders, "cost", lambda *arguments: COST)
    monkeypatch.chdir(tmp_path)


def plan(**changes: object) -> Plan:
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY | changes, sort_keys=False))
    return make_plan(Path("mine.yaml"), Path("raw"))


def of(found: Estimate, cell: str) -> tuple[float | None, str]:
    """Seconds and basis of a cell."""
    return next(
        (each.seconds, each.basis)
        for line in found.lines
        for planned, each in line.cells
        if str(planned.cell.id) == cell
    )


def test_passes_of_training_tell_long_cells_from_short_ones() -> None:
    made = plan(variants={"longer": {"training": {"epochs": 6}}})
    passes = {str(cell): count for cell, count in training_passes(made).items()}
    assert passes["digit_scenes/cnn/bce/base/seed0"] == 2 * 100 * 3
    assert passes["digit_scenes/cnn/bce/longer/seed0"] == 6 * 100 * 3
    assert passes["digit_scenes/none/label_prior/base/seed0"] == 0


def test_end_to_end_training_by_hand() -> None:
    seconds, basis = of(estimate(plan(readouts=["head"]), SLOW), "digit_scenes/cnn/bce/base/seed0")
    trained, evaluated = 2 * 10 * 10 * 3 * 1e6, 50 * 1e6
    assert basis == "computed"
    assert seconds == pytest.approx((trained + evaluated) / 5e8)


def test_contrastive_training_adds_features_and_heads() -> None:
    seconds, _ = of(estimate(plan(), SLOW), "digit_scenes/cnn/jaccard/base/seed0")
    trained, encoded = 2 * 10 * 10 * 3 * 1e6, 150 * 1e6
    steps_of_heads = 5 * 2
    assert seconds == pytest.approx((trained + encoded) / 5e8 + steps_of_heads * STEP_SECONDS)


def test_a_step_takes_its_time_on_the_fastest_device() -> None:
    made = plan(readouts=["head"])
    seconds, _ = of(estimate(made, Device(tflops=1e9)), "digit_scenes/cnn/bce/base/seed0")
    assert seconds == pytest.approx(20 * STEP_SECONDS)


def test_what_has_no_encoder_takes_no_time() -> None:
    assert of(estimate(plan(), SLOW), "digit_scenes/none/label_prior/base/seed0") == (0.0, "none")


def test_a_tenth_of_the_rows_is_a_tenth_of_the_training() -> None:
    made = plan(variants={"tenth": {"dataset": {"fraction": 0.1}}})
    settings = {
        name: made.by_id[f"digit_scenes/cnn/bce/{name}/seed0"].cell.settings for name in ("base", "tenth")
    }
    assert work(settings["base"], 100).examples == 200
    assert work(settings["tenth"], 10).examples == 20
    assert "10 to 100" in estimate(made, SLOW).render()


def test_a_tenth_of_the_rows_with_as_many_steps_costs_as_many_steps() -> None:
    few = {"dataset": {"fraction": 0.1}, "training": {"steps_per_epoch": "all_rows"}}
    made = plan(variants={"tenth": few})
    base, tenth = (
        made.by_id[f"digit_scenes/cnn/bce/{name}/seed0"].cell.settings for name in ("base", "tenth")
    )
    assert work(base, 100) == work(tenth, 10)


def test_a_second_view_micro_batches_and_a_second_stage_cost_passes() -> None:
    finetuning = {"epochs": 3, "batch_size": 10, "steps_per_epoch": 4}
    made = plan(
        protocols={"embeddings": "momentum_queue"},
        training={"epochs": 2, "batch_size": 10, "steps_per_epoch": 7, "micro_batch_size": 5},
        variants={"tuned": {"training": {"finetuning": finetuning}}},
    )

    def passes(name: str) -> tuple[int, int]:
        found = work(made.by_id[f"digit_scenes/cnn/{name}/seed0"].cell.settings, 100)
        return found.steps, found.passes

    assert passes("bce/base") == (14, 140 * (3 + 1))  # micro batches: one forward pass more
    assert passes("jaccard/base") == (2 * 14, 140 * (3 + 1 + 1))  # and the keys' one
    assert passes("jaccard/tuned") == (2 * 14 + 12, 140 * 5 + 120 * 3)


@pytest.mark.parametrize(
    ("source", "settings", "expected"),
    [
        ("voc2007", {"split": "official", "val": 0.1}, (2501, 2510 + 4952)),
        ("voc2007", {"split": "trainval", "val": 0.1}, (4510, 9963 - 4510)),
        ("voc2007", {"split": "comprehensive", "val": 0.1}, (5011, 4952)),
        ("coco2014", {"split": "official", "val": 0.1}, (74505, 123287 - 74505)),
        ("coco2014", {"split": "comprehensive", "val": 0.1}, (82783, 40504)),
        ("rcv1", {"val": 0.1}, (20834, 804414 - 20834)),
        ("aapd", {}, (53840, 2000)),
        ("miml_scene", {"val": 0.1, "test": 0.3}, (1200, 800)),
        ("goemotions", {}, (43410, 5426 + 5427)),
        ("digit_scenes", {"train": 7, "val": 2, "test": 3}, (7, 5)),
    ],
)
def test_rows_that_follow_from_published_counts(
    source: str, settings: dict, expected: tuple[int, int]
) -> None:
    from data_prep import registry

    about = registry.find(source).source.about
    assert not callable(about)
    assert published_rows(about.published, settings) == expected


def test_no_counts_no_rows() -> None:
    assert published_rows({"labels": 5}, {"val": 0.1}) is None


def test_missing_raw_data_prevent_no_estimate() -> None:
    """VOC2007's counts are published; MIMIC-IV's are not known until it is prepared."""
    made = plan(
        datasets={"chestxray14": {"size": 64}, "mimic4": None},
        encoders={"image": {"cnn": None}, "text": {"transformer": None}},
    )
    found = estimate(made, SLOW)
    assert of(found, "chestxray14/cnn/bce/base/seed0")[1] == "computed"
    assert of(found, "mimic4/transformer/bce/base/seed0") == (None, "unknown")
    told = found.render()
    assert "77,872 published" in told
    assert "unknown" in told
    assert "+ ?" in told


def test_raw_files_of_ones_own_are_not_counted_before_they_are_prepared(data_root: Path) -> None:
    if not (data_root / "coco2017" / "train2017.zip").exists():
        pytest.skip("needs the subset of coco2017")
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY | {"datasets": {"coco2017": {"accept_local": True}}}))
    assert estimate(make_plan(Path("mine.yaml"), data_root), SLOW).lines[-1].size is None


def make_record(made: Plan, cell: str, seconds: float, rows: int, **changes: object) -> None:
    planned = made.by_id[cell]
    assert planned.payload is not None
    result = {
        **planned.payload,
        "fingerprint": planned.fingerprint,
        "status": "ok",
        "reason": None,
        "metrics": {"test": {"map": 0.5}},
        "dataset": {"examples": {"train": rows}},
    }
    file = StudyPaths("mine").record(planned.cell.id)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_record(file, Record(result | changes, {"attempt": 1, "wall_seconds": seconds}))


def test_records_win_over_operations() -> None:
    tenth = {"variants": {"tenth": {"dataset": {"fraction": 0.1}}}}
    made = plan(**tenth)
    make_record(made, "digit_scenes/cnn/jaccard/base/seed0", 40.0, 100)
    make_record(made, "digit_scenes/cnn/jaccard/base/seed1", 60.0, 100)
    found = estimate(plan(**tenth), SLOW)
    assert of(found, "digit_scenes/cnn/jaccard/base/seed1") == (50.0, "measured")
    assert of(found, "digit_scenes/cnn/jaccard/tenth/seed0") == (pytest.approx(5.0), "measured")
    assert of(found, "digit_scenes/cnn/bce/base/seed0")[1] == "computed"  # another protocol
    line = found.lines[-1]
    assert (len(line.cells), len(line.to_make)) == (8, 6)


def test_records_of_local_weights_are_known_again(tmp_path: Path) -> None:
    """A record does not say where they lay."""
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"not looked at for a plan")
    encoder = {"encoders": {"image": {"resnet18": {"weights": str(weights)}}}}
    cell = "digit_scenes/resnet18/jaccard/base/seed"
    made = plan(**encoder)
    recorded = made.by_id[f"{cell}0"].payload
    assert recorded is not None
    make_record(made, f"{cell}0", 40.0, 100, settings=recorded["settings"])
    assert of(estimate(plan(**encoder), SLOW), f"{cell}1") == (40.0, "measured")


def test_failed_records_and_other_encoders_tell_nothing() -> None:
    made = plan()
    make_record(made, "digit_scenes/cnn/bce/base/seed0", 1.0, 100, status="oom", reason="too large")
    make_record(made, "digit_scenes/cnn/jaccard/base/seed0", 1.0, 100)
    found = estimate(plan(encoders={"image": {"cnn": {"width": 48}}}), SLOW)
    assert of(found, "digit_scenes/cnn/bce/base/seed1")[1] == "computed"
    assert of(found, "digit_scenes/cnn/jaccard/base/seed1")[1] == "computed"


def test_disk_by_hand() -> None:
    images = {"adp": {"size": 32}}  # 9 labels, 14,134 rows and 3,534 more
    made = plan(datasets=images, keep_embeddings=True, keep_models=True, training={"ema_decay": 0.9})
    found = estimate(made, SLOW)
    each = {str(planned.cell.id): kept for line in found.lines for planned, kept in line.cells}
    scores, features, weights = 3534 * 9 * 5, 3534 * 8 * 2, 1000 * 4
    assert each["adp/none/label_prior/base/seed0"].record_bytes == scores
    jaccard = each["adp/cnn/jaccard/base/seed0"]
    assert jaccard.record_bytes == scores + features + weights
    assert jaccard.checkpoint_bytes == weights * 4  # weights, Adam's two means, the average
    assert found.prepared_bytes == {"adp": 17668 * 32 * 32 * 3}


def test_the_command_says_it_and_writes_nothing() -> None:
    from mlcl.cli import app

    plan(datasets={"adp": {"size": 32}})
    before = sorted(Path().rglob("*"))
    done = CliRunner().invoke(app, ["plan", "mine.yaml", "--device-tflops", "20"])
    assert done.exit_code == 0, done.output
    for part in ("study mine: 0 of 6 cells", "at 20 TFLOP/s", "14,134 published", "missing here"):
        assert part in done.output
    assert "adp/cnn/bce" not in done.output
    assert sorted(Path().rglob("*")) == before


def test_cells_are_listed_when_asked_for() -> None:
    from mlcl.cli import app

    plan(variants={"warm": {"loss": {"temperature": 0.5}}})
    done = CliRunner().invoke(app, ["plan", "mine.yaml", "--cells"])
    assert "digit_scenes/cnn/jaccard/warm/seed1: there is no record" in done.output
    assert "digit_scenes/cnn/bce/warm: skipped: bce has no temperature" in done.output


def test_local_weights_that_are_missing_are_named_and_planned_around() -> None:
    made = plan(encoders={"image": {"resnet18": {"weights": "./weights/none.safetensors"}}})
    assert {planned.state for planned in made.cells} == {"missing"}
    without_weights = [planned for planned in made.cells if planned.cell.id.encoder == "resnet18"]
    assert {planned.fingerprint for planned in without_weights} == {None}
    assert of(estimate(made, SLOW), "digit_scenes/resnet18/bce/base/seed0")[1] == "computed"
    assert len(made.defects()) == 1
    with pytest.raises(Exception, match=r"encoders: resnet18: .*none\.safetensors"):
        made.require_data()


def test_importing_is_light() -> None:
    check = "import sys, mlcl.study.estimate; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", check], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_counted_rows_win_over_published_ones() -> None:
    made = plan(datasets={"adp": {"size": 32}})
    card = StudyPaths("mine").card("adp")
    card.parent.mkdir(parents=True)
    splits = {split: {"examples": rows} for split, rows in (("train", 11), ("val", 2), ("test", 3))}
    card.write_text(json.dumps({"fingerprint": "x", "labels": ["a", "b"], "splits": splits}))
    size = estimate(made, SLOW).lines[-1].size
    assert size is not None
    assert (size.train, size.evaluated, size.labels, size.basis) == (11, 5, 2, "counted")


def test_start_up_is_counted_for_each_cell_and_afterwards_is_said_how_far_off_it_was() -> None:
    planned = plan()
    found = estimate(planned, SLOW)
    cells = len(planned.all_cells)
    assert f"and {cells * START_UP_SECONDS:.0f} s for starting a process for each" in found.render()
    assert found.from_records is None
    for seed, seconds in ((0, 40.0), (1, 60.0)):
        make_record(planned, f"digit_scenes/cnn/bce/base/seed{seed}", seconds, 100)
    make_record(planned, "digit_scenes/cnn/jaccard/base/seed0", 50.0, 100)
    found = estimate(plan(), SLOW)
    assert found.from_records == Comparison(cells=2, seconds=100.0, said=100.0)
    computed = [
        of(estimate(planned, SLOW), f"digit_scenes/cnn/{row}")[0]
        for row in ("bce/base/seed0", "jaccard/base/seed0")
    ]
    assert None not in computed
    assert found.from_operations is not None
    assert found.from_operations.cells == 3
    assert found.from_operations.seconds == 150.0
    assert found.from_operations.said == pytest.approx(2 * computed[0] + computed[1])
    assert "how far off: 3 made cells took 2 min, computed: " in found.render()


def test_features_of_a_frozen_encoder_are_counted_once_for_all_cells_that_share_them() -> None:
    frozen = plan(encoders={"image": {"cnn": {"freeze": True}}})  # its random weights are those of the seed
    found = estimate(frozen, SLOW)
    assert [each.seconds for each in found.features] == [pytest.approx(150 * 1e6 / 5e8)] * 2
    assert "features of frozen encoders: 1 s besides, once for all cells of a dataset" in found.render()
    assert estimate(plan(), SLOW).features == ()
    assert "features of frozen encoders" not in estimate(plan(), SLOW).render()


def test_features_of_texts_follow_from_their_lengths_once_they_are_prepared() -> None:
    texts = {
        "datasets": {"scipy_docs": None},
        "encoders": {"text": {"transformer": {"freeze": True, "max_length": 20}}},
        "seeds": [0],
    }
    planned = plan(**texts)
    assert [each.basis for each in estimate(planned, SLOW).features] == ["unknown"]
    folder = planned.datasets["scipy_docs"].folder
    assert folder is not None
    for split, lengths in (("train", [32, 400]), ("val", [12]), ("test", [0])):
        (folder / split).mkdir(parents=True)
        np.save(folder / split / TEXT_OFFSETS, np.cumsum([0, *lengths]))
    tokens = (8 + 2) + 20 + (3 + 2) + 2  # the second is cut
    size = estimate(planned, SLOW).lines[0].size
    assert size is not None
    (made,) = estimate(planned, SLOW).features
    assert made.seconds == pytest.approx((size.train + size.evaluated) * 1e6 / 5e8 * (tokens / 4) / 20)
