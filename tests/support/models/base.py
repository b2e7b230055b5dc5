"""What all models of the tests have in common."""

from typing import Any, ClassVar

from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase

# MariaDB and MySQL want to be told how long a text may be.
TEXT = String().with_variant(String(80), "mysql", "mariadb")


class Base(DeclarativeBase):
    """The base of the models: their tables are in every test's database."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {str: TEXT}
