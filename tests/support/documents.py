"""Run what a document shows."""

import ast
import inspect
import re
from typing import Any


def blocks(language: str, document: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document, re.DOTALL)


async def run(block: str, names: dict[str, Any]) -> None:
    """Run a block, which may await at its top level."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    result = eval(compile(block, "<document>", "exec", flags=flags), names)  # noqa: S307
    if inspect.isawaitable(result):
        await result
