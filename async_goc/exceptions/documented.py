"""End each message with the place in the documents that says more."""


class Documented(Exception):  # noqa: N818
    """What the errors and the warnings have in common."""

    def __str__(self) -> str:
        # The path below the site's address, wherever that is.
        return f"{self._message()} (see errors.html#{type(self).__name__.lower()})"

    def _message(self) -> str:
        """Return what happened, and then what to do about it."""
        return super().__str__()
