"""What all models of the tests have in common."""

from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """The base of the models: their tables are in every test's database."""
