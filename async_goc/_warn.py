"""Warn with the line that has called the package, whatever runs below it."""

from inspect import currentframe
from typing import Final
from warnings import warn

_PACKAGE: Final = f"{__package__}."


def warn_caller(warning: Warning) -> None:
    """Warn, and point at the line that has called the package."""
    # A fixed `stacklevel` would name one of our own lines as soon as a call passes
    # through one more function here. (`skip_file_prefixes` needs Python 3.12.)
    level, frame = 1, currentframe()
    while frame and str(frame.f_globals.get("__name__")).startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warn(warning, stacklevel=level)
