"""The errors that a user is meant to read: one clear message, no traceback (the log keeps that).

`mlcl.losses` and `data_prep` stand on their own and have classes of their own; the command line treats all
of them alike (`mlcl.cli`).
"""


class MlclError(Exception):
    """Something that the user can mend. The message names the file, row or setting, and what to do."""


class ConfigError(MlclError):
    """A study file, or a setting in it, is wrong."""


class RecordError(MlclError):
    """A record or another stored result cannot be read."""


class FailedCellsError(MlclError):
    """The run went through, but some of its cells failed."""


class OutdatedPlanError(MlclError):
    """Code or data changed between planning and running; starting the run again plans anew."""


class CellTakenError(MlclError):
    """Another process makes the cell."""
