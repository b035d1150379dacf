"""The errors that wsi-maxmin raises on purpose, all of one shape.

Each message is one line that says what went wrong, what was got, what was expected and what to do about it.
Each class is also the built-in exception that a caller would expect, so ``except ValueError`` keeps working.
"""

import errno

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on the disk of --out, then --resume"),
    errno.EFBIG: "raise the limit of a file's size, then --resume",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it readable and writable, then --resume"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk, then --resume"),
    errno.EMFILE: "raise the limit of open files (ulimit -n), then --resume",
}


class WsiMaxminError(Exception):
    """Root of all errors raised on purpose.

    Parameters
    ----------
    what : str
        What cannot be done, or what is wrong.
    got, expected : object, optional
        What was found, and what should have been there.
    remedy : str, optional
        What the user can do about it.
    """

    def __init__(self, what: str, *, got: object = None, expected: object = None, remedy: str | None = None) -> None:
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if remedy is not None:
            parts.append(remedy)
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class InputError(WsiMaxminError, ValueError):
    """A value, an option, a configuration or a file's content is not usable."""


class MissingResultsError(InputError):
    """A figure's results are not there; the remedy is the command that makes them."""


class SlideError(WsiMaxminError, OSError):
    """A slide cannot be opened or read."""

    def __str__(self) -> str:
        # OSError would print a tuple if it had more than one argument; it has exactly one here.
        return str(self.args[0])


class OutputExistsError(WsiMaxminError, FileExistsError):
    """An output folder holds a run, finished or not, and the user has not said what to do with it."""

    def __str__(self) -> str:
        return str(self.args[0])


class DivergedError(WsiMaxminError, ArithmeticError):
    """The loss of a training is no longer a number."""


class WorkerDiedError(WsiMaxminError, RuntimeError):
    """A worker process ended in the middle of its work, each time that it was tried."""


class MissingExtraError(WsiMaxminError, ImportError):
    """An optional dependency is needed and not installed."""


def in_one_line(error: Exception) -> str:
    """Say what an error that nobody raised on purpose means: its kind, its message, and a remedy where one is known."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    remedy = _REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    return said if remedy is None else f"{said}; {remedy}"
