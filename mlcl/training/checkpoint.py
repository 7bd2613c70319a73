"""Checkpoints: the state of an unfinished training, written at ends of epochs and on SIGTERM.

A checkpoint file is MAGIC, the SHA-256 of the rest (32 bytes), and the rest: what `torch.save` writes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import threading
import warnings
from dataclasses import astuple, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, BinaryIO, Self, cast

import torch

from mlcl.training.events import EpochEnd, Interrupted

MAGIC = b"mlcl checkpoint\n"
FORMAT = 2
"""Version of what a checkpoint holds; a reader that meets another one stops with a message."""


@dataclass
class Progress:
    """How far training is; besides weights, optimizer and random streams, all that a resumed training needs."""

    order: torch.Tensor
    """State of the order's generator at the beginning of the current epoch."""
    epoch: int = 0
    """Finished epochs."""
    batches: int = 0
    """Finished batches of the current epoch."""
    learning_rate: float = 0.0
    """At the beginning of the current epoch."""
    losses: list[torch.Tensor] = field(default_factory=list)
    """Of each finished step of the current epoch, scalars on the device."""
    norms: list[torch.Tensor] = field(default_factory=list)
    """Gradient norms of the same steps."""
    curve: list[EpochEnd] = field(default_factory=list)
    seconds: float = 0.0
    """Training time, without validation and checkpoints."""
    cpu_seconds: float = 0.0
    """CPU time in `seconds`, of one of the processes that train together."""
    best: float | None = None
    """Best value on validation so far; larger is better."""
    best_weights: dict[str, Any] | None = None
    ema: dict[str, float] | None = None
    """The last mAP on validation of averaged and plain weights, where they compete."""
    best_ema: dict[str, float] | None = None
    """The same of the best epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, as `torch.load(weights_only=True)` reads them."""
        return {
            **vars(self),
            "losses": torch.stack(self.losses) if self.losses else torch.zeros(0),
            "norms": torch.stack(self.norms) if self.norms else torch.zeros(0),
            "curve": [astuple(line) for line in self.curve],
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> Self:
        losses, norms = (list(state[key].to(device)) for key in ("losses", "norms"))
        return cls(
            **{
                **state,
                "losses": losses,
                "norms": norms,
                "curve": [EpochEnd(*line) for line in state["curve"]],
            }
        )


@dataclass(frozen=True)
class Checkpoint:
    """The file with the latest state of a training; with None, nothing is saved."""

    file: Path | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the file atomically."""
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(MAGIC + bytes(hashlib.sha256().digest_size))
                hashed = _Hashed(file)
                torch.save({"format": FORMAT, "of": self._place, **state}, cast(IO[bytes], hashed))
                file.seek(len(MAGIC))
                file.write(hashed.digest.digest())
            temporary.replace(self.file)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> dict[str, Any]:
        """The saved state in host memory; empty if there is none.

        A file that is not what was written, is of another cell or stage, or of another version of torch is renamed to
        `.unreadable` with a warning, and training starts over.
        Raises Interrupted for a checkpoint of another format, and OSError where the disk cannot be read.
        """
        if self.file is None or not self.file.exists():
            return {}
        try:
            state = self._read(self.file)
        except MemoryError:
            raise
        except Exception as error:
            # torch reports a truncated file as EINVAL. After other OS errors the disk may be readable again later.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            self.file.replace(self.file.with_name(f"{self.file.name}.unreadable"))
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"{self.file}: cannot be read ({reason}); training starts over", stacklevel=2)
            return {}
        if (version := state.pop("format", None)) != FORMAT:
            raise Interrupted(
                f"{self.file}: checkpoint format {version}, this version reads {FORMAT}: resume with the "
                "version of mlcl that wrote it, or delete the file to start over"
            )
        return state

    @property
    def _place(self) -> str:
        """Tells the file from those of other cells and stages; stays the same where all of them are moved."""
        return f"{self.file.parent.name}/{self.file.name}" if self.file else ""

    def _read(self, path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + hashlib.sha256().digest_size)
            digest = hashlib.file_digest(file, "sha256").digest()
            if head != MAGIC + digest:
                raise ValueError("it is not what was written: its SHA-256 is another one")
            file.seek(len(head))
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        if (place := state.pop("of")) != self._place:
            raise ValueError(f"it is the checkpoint {place}")
        return state


class _Hashed:
    """A file to write to, whose content is hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


class StopSignal:
    """Notes a SIGTERM, which clusters send some time before they kill, instead of ending at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopSignal:
        # Python allows handlers in the main thread only.
        self._installed = threading.current_thread() is threading.main_thread()
        if self._installed:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
