"""Write findings down, for people and for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import TextIO

from ..checks import Finding

# A report that is read by no terminal is not broken into short lines.
_WIDTH = 120


def write_json(findings: Sequence[Finding], out: TextIO) -> None:
    """Write one JSON document; its form changes only with the number `version`."""
    document = {"version": 1, "findings": [asdict(each) for each in findings]}
    out.write(json.dumps(document, indent=2) + "\n")


def write_report(findings: Sequence[Finding], out: TextIO) -> None:
    """Write a table, or plain lines where `rich` is not installed, and a summary."""
    if findings and find_spec("rich") is not None:
        _write_table(findings, out)
    else:
        out.writelines(f"{line}\n" for line in _lines(findings))
    out.write(f"{_summary(findings)}\n")


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    for each in findings:
        yield f"{each.severity} {each.code} {each.model or '(engine)'}"
        yield f"  {each.message}"
        yield f"  -> {each.remedy}"


def _summary(findings: Sequence[Finding]) -> str:
    errors = sum(each.severity == "error" for each in findings)
    return f"{_many(errors, 'error')}, {_many(len(findings) - errors, 'warning')}"


def _many(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _write_table(findings: Sequence[Finding], out: TextIO) -> None:
    # An extra, and slow to import.
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False, leading=1)
    for name in ("model", "code", "what was seen", "what to do"):
        table.add_column(name, no_wrap=name in {"model", "code"})
    for each in findings:
        style = "bold red" if each.severity == "error" else "yellow"
        code = Text(f"{each.code}\n{each.severity}", style=style)
        cells = (each.model or "(engine)", each.message, each.remedy)
        model, message, remedy = map(Text, cells)
        table.add_row(model, code, message, remedy)
    width = None if out.isatty() else _WIDTH
    Console(file=out, width=width).print(table)
