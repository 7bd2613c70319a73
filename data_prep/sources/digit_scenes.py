"""Digit scenes: several real handwritten digits on one canvas with clutter; labels say which digits are there.

Made from the digits that ship with scikit-learn (test part of the UCI Optical Recognition of Handwritten
Digits data, 1797 images of 8 x 8). The source digits are divided before any scene is composed, so that no
handwriting of the training scenes appears in a validation or test scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.source import About, RawPaths, Settings, Source

if TYPE_CHECKING:
    import numpy as np

    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="Digit scenes",
    citation="Composed by mlcl from: Alpaydin and Kaynak: Optical Recognition of Handwritten Digits. UCI, 1998.",
    homepage="https://archive.ics.uci.edu/dataset/80",
    licence="CC BY 4.0 (UCI); ships with scikit-learn (BSD-3-Clause). Nothing is downloaded.",
)
CITATIONS = {"alpaydin1998optical": "the digits"}

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHARE_OF_DIGITS = {"train": 0.6, "val": 0.15, "test": 0.25}
DIGITS_IN_A_SCENE = (0.2, 0.3, 0.25, 0.15, 0.1)  # chances of 1, 2, 3, 4, 5
MIN_SIZE, MAX_SIZE = 9, 13  # height and width of a digit on the canvas, in pixels
MAX_STROKES = 3
PLACES_TRIED = 40


class DigitScenesSettings(Settings):
    """Numbers of scenes, and how hard they are."""

    train: int = Field(default=4000, ge=1, description="training scenes")
    val: int = Field(default=800, ge=1, description="validation scenes")
    test: int = Field(default=1500, ge=1, description="test scenes")
    canvas: int = Field(default=32, ge=16, le=256, description="height and width of a scene in pixels")
    noise: float = Field(
        default=0.04, ge=0, le=1, description="standard deviation of pixel noise (1: black to white)"
    )
    overlap: float = Field(
        default=0.1, ge=0, le=1, description="largest share of a digit that others may cover"
    )
    seed: int = Field(default=0, ge=0)


def prepare(settings: DigitScenesSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Compose and write the scenes of the three splits."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, classes = digits.images / 16.0, digits.target
    parts = divide_digits(classes, settings.seed)
    writer.labels(NAMES)
    writer.note("Source digits are divided by class, 60 / 15 / 25 %, before scenes are composed.")
    for number, split in enumerate(("train", "val", "test")):
        rng = np.random.default_rng([settings.seed, 1, number])
        scenes = _Scenes(images[parts[split]], classes[parts[split]], settings, rng)
        for index in range(getattr(settings, split)):
            scene, labels = scenes.compose()
            writer.split(split).add(f"{split}-{index:05d}", labels, scene)


def divide_digits(classes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Split -> rows of the source digits (classes (N,) in 0..9), the same shares of every class."""
    import numpy as np

    rng = np.random.default_rng([seed, 0])
    parts: dict[str, list[np.ndarray]] = {split: [] for split in SHARE_OF_DIGITS}
    for digit in range(len(NAMES)):
        rows = rng.permutation(np.flatnonzero(classes == digit))
        ends = np.cumsum([round(share * len(rows)) for share in SHARE_OF_DIGITS.values()])
        for split, part in zip(SHARE_OF_DIGITS, np.split(rows, ends[:-1]), strict=True):
            parts[split].append(part)
    return {split: np.concatenate(rows) for split, rows in parts.items()}


class _Scenes:
    """Composes scenes from one split's digits, grey values in [0, 1]."""

    def __init__(
        self, digits: np.ndarray, classes: np.ndarray, settings: DigitScenesSettings, rng: np.random.Generator
    ) -> None:
        import numpy as np

        self.digits, self.settings, self.rng = digits, settings, rng
        self.rows = [np.flatnonzero(classes == digit) for digit in range(len(NAMES))]
        # Low digits are common, high ones rare.
        chances = 1 / (1 + 0.25 * np.arange(len(NAMES)))
        self.class_chances = chances / chances.sum()

    def compose(self) -> tuple[np.ndarray, set[int]]:
        """One scene, uint8 (canvas, canvas, 1), and its labels."""
        import numpy as np

        size, rng = self.settings.canvas, self.rng
        scene = np.full((size, size), rng.uniform(0.1, 0.4))
        for _ in range(rng.integers(MAX_STROKES + 1)):
            self._stroke(scene)
        covered = np.zeros((size, size))
        labels = set()
        for _ in range(1 + rng.choice(len(DIGITS_IN_A_SCENE), p=DIGITS_IN_A_SCENE)):
            digit = int(rng.choice(len(NAMES), p=self.class_chances))
            if self._place(digit, scene, covered):
                labels.add(digit)
        scene += rng.normal(0, self.settings.noise, scene.shape)
        return (scene.clip(0, 1) * 255).round().astype(np.uint8)[..., None], labels

    def _place(self, digit: int, scene: np.ndarray, covered: np.ndarray) -> bool:
        """Draw one digit where it overlaps little with the others; False where no such place was found."""
        import numpy as np

        rng = self.rng
        mask = _resized(self.digits[rng.choice(self.rows[digit])], int(rng.integers(MIN_SIZE, MAX_SIZE + 1)))
        room = self.settings.canvas - len(mask) + 1
        for _ in range(PLACES_TRIED):
            top, left = rng.integers(room), rng.integers(room)
            place = np.s_[top : top + len(mask), left : left + len(mask)]
            if (covered[place] * mask).sum() <= self.settings.overlap * mask.sum():
                scene[place] += mask * (rng.uniform(0.8, 1.0) - scene[place])
                covered[place] = np.maximum(covered[place], mask)
                return True
        return False

    def _stroke(self, scene: np.ndarray) -> None:
        """A thin straight line of medium brightness: clutter that no label speaks of."""
        import numpy as np

        size, rng = len(scene), self.rng
        start, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
        steps = np.arange(rng.uniform(4, 12), step=0.5)
        points = (start + steps[:, None] * [np.sin(angle), np.cos(angle)]).astype(int)
        rows, columns = points[((points >= 0) & (points < size)).all(axis=1)].T
        scene[rows, columns] = rng.uniform(0.4, 0.8)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """A square image enlarged to (size, size) by bilinear interpolation, pixel centres aligned."""
    import numpy as np

    centres = (np.arange(size) + 0.5) * len(image) / size - 0.5
    distance = np.abs(centres.clip(0, len(image) - 1)[:, None] - np.arange(len(image)))
    weights = np.maximum(1 - distance, 0)
    return weights @ image @ weights.T


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=DigitScenesSettings,
    packages=("scikit-learn",),
    prepare=prepare,
)
