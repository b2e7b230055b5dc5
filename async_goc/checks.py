"""Hold models against a database: is what they declare unique also unique there?

``python -m async_goc check`` does the same on the command line.
"""

from ._checks import Code, Finding, Severity, check

__all__ = ["Code", "Finding", "Severity", "check"]
