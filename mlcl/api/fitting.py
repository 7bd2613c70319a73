"""One cell in one call: trained and evaluated in this process, as a study would."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcl import losses
from mlcl.api.datasets import prepare
from mlcl.data import PreparedDataset
from mlcl.errors import ConfigError, MlclError
from mlcl.evaluation.readouts import COMPARABLE, NO_READOUT, Readout
from mlcl.records.files import atomic_folder
from mlcl.records.record import SCORES, Metrics
from mlcl.records.rescore import SPLITS, metrics_of, write_scores
from mlcl.study.cells import DatasetFacts, expand
from mlcl.study.config import BASELINES, Study, parse_study
from mlcl.study.progress import ProgressDisplay
from mlcl.suggest import closest
from mlcl.training import protocols
from mlcl.training.settings import CellSettings, SubsetSettings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mlcl.model.model import Model
    from mlcl.training.outcome import Outcome

HERE = Path("mlcl.fit")
"""Stands for the study file in messages."""
USUAL_ENCODERS = {"image": "cnn", "text": "transformer", "vector": "mlp"}
SHOWN = ("micro_f1", "macro_f1", "map")


def fit(
    dataset: Any,
    labels: Any = None,
    *,
    encoder: str | Mapping[str, Any] | None = None,
    loss: str | Path | Mapping[str, Any] | type = "reg",
    seed: int = 0,
    protocol: str | None = None,
    readouts: Sequence[Readout] = ("head", "linear"),
    linear_evaluation: Mapping[str, Any] | None = None,
    knn_evaluation: Mapping[str, Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    progress: bool = True,
    text: str | None = None,
    split: Any = None,
    **settings: Any,
) -> Result:
    """Trains an encoder with a loss and evaluates it: one cell of a study, with a study's defaults and checks.

    Args:
        dataset: a prepared dataset, or what `mlcl.prepare` makes one of.
        labels: as for `mlcl.prepare`, and so are `text` and `split`.
        encoder: a name, or `{"name": "mlp", "hidden": [64]}`. Default: `cnn`, `transformer` or `mlp`, by modality.
        loss: a name, a class of `mlcl.losses`, the file of a loss of your own, `{"name": "reg", "temperature": 0.2}`,
            or a baseline (`random_encoder`, `label_prior`, `random`).
        protocol: how it is trained; by default the one for what the loss is called with (docs/training.md).
        readouts: how scores are made of the trained encoder: `head` (where the loss trains one), `linear`, `knn`.
        compute: such as `{"threads": 2, "device": "cuda"}`. The default, one thread, is a study's too.
        settings: of training (`epochs=20, learning_rate=1e-3`), of the loss (`temperature=0.1`), or of the subset
            (`fraction=0.1`); each goes where it is known.

    Returns the result; the caller's random state and number of threads are as before. Raises ConfigError, DataError or
    LossError for what cannot be trained, with the closest name that is known, and `mlcl.training.events.Diverged`.
    """
    opened = prepare(dataset, labels, text=text, split=split)
    study = _study(
        opened,
        encoder=encoder,
        loss=loss,
        protocol=protocol,
        settings=settings,
        seeds=[seed],
        readouts=list(readouts),
        linear_evaluation=dict(linear_evaluation or {}),
        knn_evaluation=dict(knn_evaluation or {}),
        compute=dict(compute or {}),
    )
    return _train(_only_cell(study, opened), opened, progress)


@dataclass(frozen=True, repr=False)
class Result:
    """What one cell came to.

    Attributes:
        dataset: the prepared dataset.
        settings: all settings of the cell, defaults filled in.
        labels: split (`val`, `test`) -> (n, L) of 0 and 1 (-1: unknown), of the rows that were used.
        scores: readout -> split -> (n, L) probabilities. `none` stands for a baseline without an encoder.
        by_readout: readout -> split -> metric -> value, as in a record (docs/metrics.md); values are fractions.
        outcome: what the protocol returned; holds the trained encoder.
    """

    dataset: PreparedDataset
    settings: CellSettings
    labels: Mapping[str, NDArray[np.uint8]]
    scores: Mapping[str, Mapping[str, NDArray[np.float32]]]
    by_readout: Metrics
    outcome: Outcome

    @property
    def encoder(self) -> str:
        return self.settings.encoder.name if self.settings.encoder else "none"

    @property
    def loss(self) -> str:
        """The loss's name; of a baseline its own."""
        return self.settings.loss.name if self.settings.loss else self.settings.protocol

    @property
    def readout(self) -> str:
        """The readout that metrics are shown by: `linear` where it is there, as in a study's tables."""
        return next((name for name in COMPARABLE if name in self.scores), NO_READOUT)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row a metric, one column for each readout and split."""
        import pandas as pd

        columns = {(r, s): values for r, splits in self.by_readout.items() for s, values in splits.items()}
        frame = pd.DataFrame(columns)
        frame.columns = pd.MultiIndex.from_tuples(list(columns), names=["readout", "split"])
        return frame.rename_axis(index="metric")

    @cached_property
    def curve(self) -> pd.DataFrame:
        """The learning curve: one row an epoch, columns as in `history.csv`; empty where nothing is trained."""
        import pandas as pd

        fitted = self.outcome.fitted
        return pd.DataFrame([asdict(line) for line in fitted.curve] if fitted else [])

    def metric(self, name: str, split: str = "test", readout: str | None = None) -> float:
        """One metric. Raises MlclError for a name that is not there."""
        values = self.by_readout.get(readout or self.readout, {}).get(split, {})
        if name not in values:
            raise MlclError(f"there is no metric '{name}' on {split}; {closest(name, values)}")
        return values[name]

    @cached_property
    def model(self) -> Model:
        """The trained model, for inputs as they were before preparation. Raises ModelError for a baseline without one.

        `model.encoder` is the encoder, `model.predict_proba(inputs)` gives probabilities (N, L) by `readout`.
        """
        from mlcl.model import load_model

        with tempfile.TemporaryDirectory() as folder:
            return load_model(self.save(Path(folder) / "model"))

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Probabilities (N, L) of new texts, images or vectors (`mlcl.model.model.Model.predict`)."""
        return self.model.predict_proba(inputs)

    def save(self, folder: str | Path) -> Path:
        """Writes the model's folder, as `mlcl export` does; `mlcl.load_model` and `mlcl predict` open it."""
        from mlcl.model import folder as model_folder
        from mlcl.model.config import read_config
        from mlcl.study.export import complete, refuse_foreign

        to, training = Path(folder), self.settings.training
        refuse_foreign(to)
        cell = f"{self.dataset.name}/{self.encoder}/{self.loss}/base/seed{self.settings.seed}"
        made_by = {"study": str(HERE), "cell": cell, "fingerprint": "none (made outside of a study)"}
        stored = {
            readout: {f"{split}_scores": values for split, values in splits.items()}
            | {f"{split}_labels": values for split, values in self.labels.items()}
            for readout, splits in self.scores.items()
        }
        with atomic_folder(to) as temporary:
            model_folder.save(self.settings, self.dataset, self.outcome, temporary, made_by)
            config = read_config(temporary).with_readout(self.readout)
            selection = protocols.selection(training) if training else None
            complete(temporary, config, stored, self.by_readout, self.dataset.card, selection)
        return to

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in self._shown().items())
        return f"<mlcl result: {self._title()}; test, in %: {shown}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self._shown())
        values = "".join(f"<td>{100 * value:.1f}</td>" for value in self._shown().values())
        return (
            f"<p>{escape(self._title())}; test split, in %, readout {self.readout}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody><tr>{values}</tr></tbody></table>"
        )

    def _shown(self) -> dict[str, float]:
        values = self.by_readout[self.readout]["test"]
        return {name: values[name] for name in SHOWN if name in values}

    def _title(self) -> str:
        return f"{self.loss} with {self.encoder} on {self.dataset.name}, seed {self.settings.seed}"


def _study(
    dataset: PreparedDataset,
    *,
    encoder: str | Mapping[str, Any] | None,
    loss: str | Path | Mapping[str, Any] | type,
    protocol: str | None,
    settings: Mapping[str, Any],
    **keys: Any,
) -> Study:
    """The study of one cell, as a study file would say it."""
    encoder_entry = _entry(encoder or USUAL_ENCODERS[dataset.modality])
    loss_entry = _loss_entry(loss)
    content: dict[str, Any] = {"title": "One cell", **keys}
    known_subset = {key: value for key, value in settings.items() if key in SubsetSettings.model_fields}
    others = {key: value for key, value in settings.items() if key not in known_subset}
    name = loss_entry.pop("name", None) or Path(loss_entry["file"]).stem
    if name in BASELINES:
        if left := [*others, *loss_entry]:
            raise ConfigError(
                f"{HERE}: {left[0]}: the baseline {name} is not trained, so it has no such setting"
            )
        content["baselines"] = [name]
    else:
        if protocol is not None:
            loss_entry["protocol"] = protocol
        of_training, of_loss = _sorted(others, name, loss_entry)
        content |= {"losses": {name: {**loss_entry, **of_loss}}, "training": of_training}
    content["datasets"] = {dataset.name: {**known_subset}}
    content["encoders"] = {dataset.modality: {encoder_entry.pop("name"): encoder_entry}}
    return parse_study(content, HERE)


def _entry(given: str | Mapping[str, Any]) -> dict[str, Any]:
    entry = {"name": given} if isinstance(given, str) else dict(given)
    if not isinstance(entry.get("name"), str):
        raise ConfigError(f"{HERE}: {given!r}: give a name, or a mapping with the key 'name'")
    return entry


def _loss_entry(loss: str | Path | Mapping[str, Any] | type) -> dict[str, Any]:
    if isinstance(loss, type):
        package, _, name = loss.__module__.rpartition(".")
        if package != "mlcl.losses" or name not in losses.names():
            raise ConfigError(
                f"{HERE}: {loss.__name__} is no class of mlcl.losses; give the file of your own loss"
            )
        return {"name": name}
    if isinstance(loss, Path) or (isinstance(loss, str) and loss.endswith(".py")):
        return {"file": str(loss)}
    if isinstance(loss, Mapping) and "file" in loss:
        return {**loss, "file": str(loss["file"])}
    return _entry(loss)


def _sorted(
    settings: Mapping[str, Any], name: str, loss: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of training, and hyperparameters of the loss. Raises ConfigError for what is neither."""
    info = losses.describe(name, file=loss.get("file"))
    chosen = loss.get("protocol") or protocols.DEFAULT[info.inputs]
    if chosen not in protocols.names():
        raise ConfigError(f"{HERE}: unknown protocol '{chosen}'; {closest(chosen, protocols.names())}")
    model = protocols.load(chosen).Settings
    fields = model.model_fields if model else {}
    for key in settings:
        if key not in fields and key not in info.hyperparameters:
            known = [*fields, *info.hyperparameters, *SubsetSettings.model_fields]
            raise ConfigError(f"{HERE}: {key}: is no setting of {chosen} or {name}; {closest(key, known)}")
    of_training = {key: value for key, value in settings.items() if key in fields}
    return of_training, {key: value for key, value in settings.items() if key not in fields}


def _only_cell(study: Study, dataset: PreparedDataset) -> CellSettings:
    facts = DatasetFacts(
        dataset.modality,
        dict(dataset.card.get("settings", {})),
        str(dataset.card.get("title", dataset.name)),
    )
    cells, skipped = expand(study, {dataset.name: facts}, {})
    if not cells:
        raise ConfigError(f"{HERE}: {skipped[0].reason}")
    return cells[0].settings


def _train(settings: CellSettings, dataset: PreparedDataset, progress: bool) -> Result:
    import numpy as np

    from mlcl.training import launch
    from mlcl.training.events import Diverged

    with _caller_undisturbed():
        if progress:
            with ProgressDisplay(sys.stderr) as display:
                outcome = launch.train(settings, dataset, display.report)
        else:
            outcome = launch.train(settings, dataset, lambda event: None)
    if not all(np.isfinite(s).all() for splits in outcome.scores.values() for s in splits.values()):
        raise Diverged("the scores are not finite")
    labels = {split: dataset[split].dense_labels(outcome.rows[split]) for split in SPLITS}
    ids = {split: np.asarray(dataset[split].ids)[outcome.rows[split]] for split in SPLITS}
    with tempfile.TemporaryDirectory() as folder:  # metrics are those of the stored scores, as in a record
        write_scores(Path(folder) / SCORES, outcome.scores, labels, ids)
        metrics = metrics_of(Path(folder), dataset.folder / "card.json")
    return Result(dataset, settings, labels, outcome.scores, metrics, outcome)


@contextmanager
def _caller_undisturbed() -> Iterator[None]:
    """Training seeds torch's global generators and sets threads and TF32; afterwards they are as before."""
    import torch

    threads = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
