"""Hold models against a database: is what they declare unique also unique there?"""

from ._checks import Code, Finding, Severity, check

__all__ = ["Code", "Finding", "Severity", "check"]
