"""The errors of the loss library. Each message says what was given, what is allowed, and what to do."""


class LossError(ValueError):
    """An unknown loss, a wrong hyperparameter, or a loss file that does not follow the rules."""


class LossInputError(LossError):
    """Tensors handed to a loss have a wrong shape, type or value."""


class NotFusedError(Exception):
    """The fused form of the kernel does not cover a loss or a call; says why, as the end of a sentence."""
