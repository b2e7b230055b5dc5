"""One thing that a check has found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]
Code: TypeAlias = Literal[
    "missing-in-database",
    "missing-in-model",
    "duplicates",
    "nullable-key",
    "deferrable",
    "case-insensitive",
    "not-native",
    "no-unique-key",
    "sqlite-not-configured",
    "shared-connection",
    "autocommit",
    "isolation",
    "prepared-statements",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has seen, and what to do about it; never a value of a row.

    Attributes:
        code: What kind of finding it is; the codes do not change.
        severity: ``"error"`` where a lookup can find several rows, or the database does
            not have what the model says; else ``"warning"``.
        model: The class's name, or the table's where it has no class. ``None`` where
            it is about the engine.
        message: What was seen.
        remedy: What to do.
    """

    code: Code
    severity: Severity
    model: str | None
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


def in_order(finding: Finding) -> tuple[bool, str, str, str]:
    """Return what to sort by: errors first, then by the model's name."""
    return (
        finding.severity != "error",
        finding.model or "",
        finding.code,
        finding.message,
    )
