"""The command line: each command is one call into the package, and what a rule of the workflow runs.

`starting`  the first ten minutes: new, doctor, schema, cite
`asking`    plan, why, status, coverage, verify, show
`making`    prepare, train, work, choose, evaluate, adopt
`showing`   aggregate, tables, figures, report, cards, diff, keep, fill, leaderboard
`moving`    pack, unpack, merge
`publishing` crate, croissant
`models`    export, predict, weights
`common`    the application, and what the commands share

Imports stay inside the commands, so that `--help` and planning are quick and the threads of a cell can be set
before numpy and torch are loaded.
"""

from __future__ import annotations

import signal
import sys
from functools import cache
from typing import Any, NoReturn

import typer

from mlcl.cli import starting, asking, making, showing, moving, publishing, models  # isort: skip (the order of the help)
from mlcl.cli.common import app, say

__all__ = [
    "app", "asking", "command", "main", "making", "models", "moving", "publishing", "showing", "starting",
]  # fmt: skip


@cache
def command() -> Any:
    """All commands, put together once: a warm worker does it for all of its children."""
    return typer.main.get_command(app)


def main() -> NoReturn:
    """Runs the command line; what the user can mend is one message and exit code 2, without a traceback."""
    from data_prep import DataError
    from mlcl.encoders import EncoderError
    from mlcl.errors import MlclError
    from mlcl.losses import LossError
    from mlcl.published import PublishedError
    from mlcl.training.events import Interrupted

    try:
        command()()
    except (MlclError, DataError, LossError, EncoderError, PublishedError) as error:
        _fail(str(error), code=2)
    except Interrupted as error:
        _fail(str(error), code=128 + signal.SIGTERM)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    say(f"mlcl: {message}")
    sys.exit(code)
