"""Which cells are made again to prove that changed code gives the same results."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from mlcl.records.code import write_definitions
from mlcl.records.record import Record, write_record
from mlcl.study.adopt import choose_sample
from mlcl.study.code import code_of
from mlcl.study.plan import Plan, make_plan

STUDY = {
    "title": "Tiny",
    "seeds": [0, 1],
    "datasets": {"digit_scenes": {"train": 96, "val": 48, "test": 48}},
    "encoders": {"image": {"cnn": {"width": 4}, "resnet18": {}}},
    "losses": ["jaccard", "mulsupcon", "reg", "bce"],
    "baselines": ["label_prior"],
}
SECONDS = {"label_prior": 0.5, "bce": 1, "jaccard": 2, "mulsupcon": 3, "reg": 4}
KERNEL = "mlcl.losses._kernel.sum_over_tiles"


def plan_with_records(changed: dict[str, list[str]], listed: bool = True) -> Plan:
    """The study with records in which these definitions were others: loss -> their names."""
    Path("tiny.yaml").write_text(yaml.safe_dump(STUDY))
    planned = make_plan(Path("tiny.yaml"))
    for one in planned.cells:
        loss = one.cell.id.loss
        assert one.payload is not None
        another = hashlib.sha256(one.payload["code"].encode()).hexdigest()
        code = another if changed.get(loss) else one.payload["code"]
        definitions = dict(code_of(one.cell.settings).definitions)
        for name in changed.get(loss, []):
            assert name in definitions
            definitions[name] = "another"
        if listed:
            write_definitions(planned.paths.results, code, definitions)
        result = {**one.payload, "code": code, "fingerprint": code if changed.get(loss) else one.fingerprint}
        seconds = SECONDS[loss] + one.cell.id.seed
        record = Record(
            {**result, "status": "ok", "reason": None, "metrics": {"test": {"map": 0.5}}},
            {"attempt": 1, "wall_seconds": seconds},
        )
        write_record(planned.paths.record(one.cell.id), record)
    return make_plan(Path("tiny.yaml"))


def sample(planned: Plan) -> list[str]:
    chosen = choose_sample([one for one in planned.cells if one.differs_in_code_alone()])
    return [f"{one.cell.id.encoder}/{one.cell.id.loss}/{one.cell.id.seed}" for one in chosen]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLCL_DATA_ROOT", raising=False)


def test_one_cell_of_each_protocol_and_encoder_family_the_cheapest() -> None:
    loop = "mlcl.training.loop.TrainingRun"
    planned = plan_with_records({loss: [loop] for loss in ("jaccard", "mulsupcon", "reg", "bce")})
    assert sorted(sample(planned)) == ["cnn/bce/0", "cnn/jaccard/0", "resnet18/bce/0", "resnet18/jaccard/0"]


def test_each_changed_definition_is_run_by_a_cell_of_the_sample() -> None:
    changed = {"jaccard": [KERNEL], "mulsupcon": [KERNEL], "reg": [KERNEL, "mlcl.losses.reg.Reg"]}
    planned = plan_with_records(changed)
    assert sorted(sample(planned)) == ["cnn/jaccard/0", "cnn/reg/0", "resnet18/jaccard/0"]


def test_where_changes_have_no_names_each_kind_of_code_is_run() -> None:
    planned = plan_with_records({"jaccard": [KERNEL], "reg": [KERNEL]}, listed=False)
    assert len(sample(planned)) == 4


def test_why_names_the_definitions_that_differ() -> None:
    planned = plan_with_records({"reg": [KERNEL, "mlcl.losses.reg.Reg"]})
    why = planned.by_id["digit_scenes/cnn/reg/base/seed0"].why()
    assert why == [f"the code changed ({KERNEL}, mlcl.losses.reg.Reg)"]
    assert planned.by_id["digit_scenes/cnn/bce/base/seed0"].why() == []
