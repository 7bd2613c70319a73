"""docs/losses.md is what its command makes, and the weights that it shows are those that the kernel sums."""

import re

import pytest
import torch
from cases import ROOT, build, random_labels

from mlcl import losses
from tests import scripts


def test_the_stub_of_the_classes_is_up_to_date() -> None:
    module = scripts.load("docs/make_loss_stubs.py")
    assert module.STUB.read_text() == module.stub(), "run: python docs/make_loss_stubs.py"


def test_the_page_of_losses_is_up_to_date() -> None:
    module = scripts.load("docs/make_losses.py")
    assert (ROOT / "docs/losses.md").read_text() == module.page(), "run: python docs/make_losses.py"
    for picture in re.findall(r"\]\((figures/.*?)\)", module.page()):
        assert (ROOT / "docs" / picture).is_file(), picture


@pytest.mark.parametrize("name", [n for n in losses.names() if losses.describe(n).inputs == "embeddings"])
def test_pair_weights_are_shares(name: str) -> None:
    """Rows of anchors with positives sum to 1 (to the number of labels, for `mulsupcon`); no item meets itself."""
    labels = random_labels(8)
    weights = build(name).pair_weights(labels)
    assert (weights >= 0).all()
    totals = weights.sum(1)
    if name == "mulsupcon":
        torch.testing.assert_close(totals, labels.sum(1).float())
    elif name in ("multisupcon", "simdissim"):  # weights of at most 1, divided by the number of positives
        assert (totals <= 1 + 1e-6).all()
    else:
        torch.testing.assert_close(totals[totals > 0], torch.ones_like(totals[totals > 0]))
    if "batch" in losses.describe(name).references:
        assert (weights.diagonal()[: len(labels)] == 0).all()
