"""What Milwright raises."""

from __future__ import annotations


class Error(RuntimeError):
    """A model could not be opened, compiled or run. The message names file, function and op where they are known."""

    kind: str
    """Whose fault it is, such as ``Malformed`` or ``Runtime``."""
    hint: str | None
    """What to do about it."""
    path: str | None
    """The file that it is about."""

    def __init__(self, message: str, *, kind: str = "Runtime", hint: str | None = None, path: str | None = None):
        super().__init__(message if hint is None else f"{message}\nhint: {hint}")
        self.kind, self.hint, self.path = kind, hint, path


class InputError(Error, ValueError):
    """An input or an option is wrong: name, shape, element type, value."""


class UnsupportedError(Error, NotImplementedError):
    """A model uses something that Milwright knows of and does not handle."""


class ToleranceError(Error):
    """A result differs from the original by more than was allowed, or is NaN or infinite where it must not be."""


class OutOfMemoryError(Error, MemoryError):
    """A model needs more memory than it may take, or than there is."""


class DeadlineError(Error, TimeoutError):
    """The time that the caller gave is over."""


class FileError(Error, OSError):
    """A file cannot be read or written: ``errno`` and ``filename`` are those of the system, where it said something."""

    def __str__(self) -> str:
        # The whole message, where an OSError has its number and the file only.
        return str(self.args[0])


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file, or one that a model needs is missing."""


class ExistsError(FileError, InputError, FileExistsError):
    """A result is there already, and is replaced with ``force=True`` only."""


class FilePermissionError(FileError, PermissionError):
    """A file may not be read or written."""
