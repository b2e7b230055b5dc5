"""Hold models against a database, and say what is unsafe before a row is there twice.

`looking` is the call, and its order of work. `models` says what was given, `keys` what
two unique keys have to do with each other. The findings are those of a table (`drift`,
and `duplicates` where a key is missing), of a model (`mapped`) and of an engine
(`engines`); `finding` is what they all are.
"""

# pyright: reportUnusedImport=false

from .finding import Code, Finding, Severity
from .looking import check
