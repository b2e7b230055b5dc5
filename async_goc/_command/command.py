"""Take the arguments of the command line, and say by a number what came of them."""

import asyncio
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError, SAWarning, SQLAlchemyError

from ..checks import Finding, check
from .report import write_json, write_report
from .targets import VARIABLE, NotFoundError, find_engine, find_object, make_engine

NOTHING, FOUND, NOT_LOOKED = range(3)

# What an engine that was made for a URL here cannot tell of the program's own.
_UNSEEN = (
    "The settings of the program's own engine were not looked at; "
    "--engine MODULE:NAME does that."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0, 1 (found), or 2 (could not look)."""
    options = _parser().parse_args(arguments)
    # The database may have types that SQLAlchemy does not know, and no key is of them.
    warnings.simplefilter("ignore", SAWarning)
    try:
        findings = asyncio.run(_check(options))
    # Whatever it is, the code 1 would say that the models were looked at.
    except Exception as error:  # noqa: BLE001
        print(f"async_goc check could not look: {_said(error)}", file=sys.stderr)  # noqa: T201
        return NOT_LOOKED
    if options.json:
        write_json(findings, sys.stdout)
    else:
        write_report(findings, sys.stdout)
        if options.engine is None:
            sys.stdout.write(f"{_UNSEEN}\n")
    is_bad = any(
        each.severity == "error" or options.fail_on == "warning" for each in findings
    )
    return FOUND if is_bad else NOTHING


async def _check(options: Namespace) -> list[Finding]:
    models = find_object(options.models, "declarative base")
    if options.engine is not None:
        engine = find_engine(options.engine)
    else:
        engine = make_engine(options.url, os.environ)
    try:
        findings = await check(engine, models)
    finally:
        await engine.dispose()
    is_own = options.engine is None
    return [each for each in findings if not (is_own and each.model is None)]


def _said(error: Exception) -> str:
    if isinstance(error, NotFoundError | ValueError | TypeError):
        return str(error)
    if isinstance(error, ImportError):
        return f"{error}; install it"
    # The first line is the database's; the others are SQLAlchemy's own.
    said = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    if isinstance(error, SQLAlchemyError) and not isinstance(error, DBAPIError):
        return said
    return f"{said}; see whether the server runs, and lets this user SELECT"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m async_goc")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "check",
        help="hold the models against the database",
        description="Hold the models against the database, and say what is unsafe. "
        "Only reads. Exit code 0: nothing was found, or warnings alone; 1: errors "
        "were (see --fail-on); 2: it could not look.",
    )
    command.add_argument(
        "models",
        metavar="MODULE:BASE",
        help="a declarative base, SQLModel, a mapped class, a registry or a MetaData",
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--url", help=f"the database; else that of ${VARIABLE}")
    where.add_argument(
        "--engine",
        metavar="MODULE:NAME",
        help="the program's own AsyncEngine, whose settings are looked at, too",
    )
    command.add_argument("--json", action="store_true", help="write a JSON document")
    command.add_argument(
        "--fail-on",
        choices=("error", "warning"),
        default="error",
        help="the least severity for exit code 1 (default: error)",
    )
    return parser
