"""A model trained on a GPU predicts there, and on a CPU, what its record says."""

from __future__ import annotations

import pytest

from tests.model.conftest import Workshop, data, workshop
from tests.model.test_prediction import check

pytestmark = pytest.mark.gpu

__all__ = ["data", "workshop"]


@pytest.mark.parametrize(
    "cell",
    [
        "photos/cnn/bce/base/seed0",
        "photos/frozen_cnn/jaccard/base/seed0",
        "notes/transformer/jaccard/base/seed0",
        "points/mlp/bce/base/seed0",
    ],
)
def test_raw_inputs_get_the_scores_of_the_record(workshop: Workshop, cell: str, device: str) -> None:
    """The study leaves the device to `auto`, which is the GPU where there is one."""
    for where in {device, "cpu"}:
        check(workshop, cell, device=where, atol=1e-4)
