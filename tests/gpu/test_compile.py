"""Compiled encoders on a GPU; in a file of their own, since compiling takes longest and is to begin first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny import cell, only_scores, run

pytestmark = pytest.mark.gpu

NO_DROPOUT: dict[str, dict[str, Any]] = {"images": {}, "texts": {"dropout": 0.0, "token_dropout": 0.0}}


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
@pytest.mark.parametrize("modality", NO_DROPOUT)
def test_a_compiled_encoder_trains_as_one_that_is_not(
    modality: str, precision: str, cuda: str, request: pytest.FixtureRequest
) -> None:
    dataset = request.getfixturevalue(modality)
    plain, compiled = (
        run(
            cell(
                dataset,
                "jaccard",
                encoder=NO_DROPOUT[modality],
                training={"projection_dim": 8},
                compute={"threads": 1, "device": cuda, "precision": precision, "compile": compiles},
            ),
            dataset,
        )
        for compiles in (False, True)
    )
    assert plain.fitted is not None
    assert compiled.fitted is not None
    assert np.isfinite(only_scores(compiled)["test"]).all()
    ours, theirs = (fitted.curve[-1].loss for fitted in (compiled.fitted, plain.fitted))
    assert ours == pytest.approx(theirs, rel=0.02 if precision == "fp32" else 0.1)
