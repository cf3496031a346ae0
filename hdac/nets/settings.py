"""What the settings of all networks have: they travel as JSON in the head of a weights file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

from data.errors import InputError

Settings = TypeVar("Settings", bound="NetworkSettings")


class NetworkSettings:
    """Base of frozen dataclasses of numbers, names, tuples of them, and other dataclasses named in `PARTS`."""

    PARTS: ClassVar[dict[str, type]] = {}
    """Fields that are dataclasses themselves."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[Settings], values: dict[str, Any]) -> Settings:
        """The reverse of `to_dict`, from JSON as well; InputError for unknown fields, and missing ones without default."""
        try:
            parts = {name: part(**_without_lists(values[name])) for name, part in cls.PARTS.items()}
            return cls(**{**_without_lists(values), **parts})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not the settings of a network, {cls.__name__}: {error}") from error


def _without_lists(values: Any) -> Any:
    """Tuples for the lists that JSON makes of them: settings are frozen and can be hashed."""
    if isinstance(values, dict):
        return {name: _without_lists(value) for name, value in values.items()}
    return tuple(map(_without_lists, values)) if isinstance(values, list | tuple) else values
