"""The one error of this package, and its suggestions for misspelt names."""

from mlcl.suggest import closest

__all__ = ["DataError", "closest"]


class DataError(Exception):
    """A dataset cannot be planned, prepared or opened. The message says which file, row or setting is at
    fault, what is allowed, and what to do, in one line; characters that would steer a terminal are escaped."""

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))


def _one_line(message: str) -> str:
    joined = " ".join(str(message).splitlines())
    if joined.isprintable():
        return joined
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in joined)
