"""The error of `mlcl.encoders`. It is no MlclError, because the package imports nothing of the floors above."""


class EncoderError(ValueError):
    """A wrong setting, weights or input of an encoder; the message says how to fix it."""
