"""A policy is a value: it checks its fields, compares by them, and can be copied."""

from typing import Any

import pytest

from async_goc import (
    Policy,
)


@pytest.mark.parametrize(
    "arguments",
    [
        {"locks": "none"},
        {"hold": "forever"},
        {"wait_timeout": -1},
        {"wait_timeout": float("nan")},
        {"namespace": []},
    ],
)
def test_policies_are_checked(arguments: dict[str, Any]) -> None:
    """A value out of its range says what to give."""
    with pytest.raises((TypeError, ValueError), match="; give "):
        Policy(**arguments)
