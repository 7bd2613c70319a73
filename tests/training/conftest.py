"""Fixtures of the tests of training: the tiny datasets of `tiny`."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny import prepare

from mlcl.data import PreparedDataset


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare("image", tmp_path_factory.mktemp("images") / "prepared")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare("text", tmp_path_factory.mktemp("texts") / "prepared")


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare("vector", tmp_path_factory.mktemp("vectors") / "prepared")
