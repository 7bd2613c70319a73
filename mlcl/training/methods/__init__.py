"""What is trained: an encoder, and what makes a loss of its features. Protocols put these to work."""

from __future__ import annotations

from mlcl.training.methods.base import Method, Untrained
from mlcl.training.methods.classification import Classification, OwnHeads
from mlcl.training.methods.contrastive import Contrastive, Joint
from mlcl.training.methods.momentum_queue import MomentumQueue

__all__ = ["Classification", "Contrastive", "Joint", "Method", "MomentumQueue", "OwnHeads", "Untrained"]
