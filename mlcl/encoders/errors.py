"""What goes wrong with encoders. This floor stands on its own, so its error does too."""


class EncoderError(ValueError):
    """An encoder's setting, weights or input that the user can mend; the message says how."""
