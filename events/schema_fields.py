"""Fields that take exactly what they say, and say what is wrong with anything else."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

from marshmallow import RAISE, Schema, ValidationError, fields, missing

ID = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
_TIME = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
_FARTHEST = timedelta(hours=14)


def shown(value: object) -> str:
    """Return a value as a message shows it: short, on one line, and never with a lone surrogate."""
    try:
        text = ascii(value) if not isinstance(value, int | float) else str(value)
    except ValueError:
        text = "a number of thousands of digits"
    except RecursionError:
        text = "something nested very deeply"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fault(code: str, detail: str) -> NoReturn:
    raise ValidationError([(code, detail)])


class StrictSchema(Schema):
    """An object whose fields are taken as they say, and nothing else.

    It reads the fields itself, because marshmallow's general path takes three times as long.
    """

    class Meta:
        """What the general path would do too."""

        unknown = RAISE

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._plan = [
            (field.data_key or name, field.attribute or name, field)
            for name, field in self.load_fields.items()
        ]
        self._known = {key for key, _, _ in self._plan}

    def load(self, data: Any, **options: Any) -> Any:
        """Return the values by the fact's names; raises ValidationError that names each fault."""
        if data.__class__ is not dict:
            _fault("not-an-object", f"This must be a JSON object, not {shown(data)}.")
        faults: dict[str, Any] = {
            key: [("unknown-field", f"{shown(key)} is not a field of this version.")]
            for key in data.keys() - self._known
        }
        values = {}
        for key, name, field in self._plan:
            try:
                value = field.deserialize(data[key]) if key in data else _absent(key, field)
            except ValidationError as error:
                faults[key] = error.messages
            else:
                if value is not missing:
                    values[name] = value
        if faults:
            raise ValidationError(faults)
        return values


def _absent(key: str, field: fields.Field[Any]) -> Any:
    if field.required:
        _fault("required", f"{key} is missing.")
    return field.load_default


class _Strict(fields.Field[Any]):
    """A field that takes exactly what it says."""

    def deserialize(
        self,
        value: Any,
        attr: str | None = None,
        data: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        name = self.data_key or self.name or ""
        if value is None:
            _fault("null", f"{name} is null; leave it out where it is not known.")
        return self.read(name, value)

    def read(self, name: str, value: Any) -> Any:
        """Return the value as the fact has it; raises ValidationError."""
        raise NotImplementedError


class Part(fields.Nested):
    """An object inside another one."""

    def deserialize(
        self,
        value: Any,
        attr: str | None = None,
        data: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return its values; raises ValidationError."""
        if value is None:
            _fault("null", f"{self.name} is null; leave it out where it is not known.")
        return self.schema.load(value)


class Thousandths(_Strict):
    """A JSON number with at most three decimals, held as a whole number of thousandths."""

    def __init__(self, least: float, most: float, **options: Any) -> None:
        described = {"type": "number", "minimum": least, "maximum": most, "multipleOf": 0.001}
        super().__init__(metadata=described, **options)
        self.least, self.most = least, most

    def read(self, name: str, value: Any) -> int:
        """Return thousandths."""
        whole = value.__class__ is int
        if not whole and value.__class__ is not float:
            _fault("not-a-number", f"{name} is {shown(value)}; it must be a number.")
        if not self.least <= value <= self.most:
            limits = f"between {self.least:g} and {self.most:.12g}"
            _fault("out-of-range", f"{name} is {shown(value)}; it must be {limits}.")
        if whole:
            return int(value) * 1000
        if round(value, 3) != value:
            _fault("too-precise", f"{name} is {shown(value)}; it must have at most three decimals.")
        thousandths: int = round(value * 1000)
        return thousandths


class Whole(_Strict):
    """A whole number within limits."""

    def __init__(self, least: int, most: int, **options: Any) -> None:
        described = {"type": "integer", "minimum": least, "maximum": most}
        super().__init__(metadata=described, **options)
        self.least, self.most = least, most

    def read(self, name: str, value: Any) -> int:
        """Return it."""
        if value.__class__ is not int:
            _fault("not-a-number", f"{name} is {shown(value)}; it must be a whole number.")
        if not self.least <= value <= self.most:
            limits = f"between {self.least} and {self.most}"
            _fault("out-of-range", f"{name} is {shown(value)}; it must be {limits}.")
        return int(value)


class Id(_Strict):
    """1 to 64 of letters, digits, dot, underscore and hyphen; the first a letter or digit."""

    _match = re.compile(ID).match

    def __init__(self, **options: Any) -> None:
        described = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
        super().__init__(metadata=described, **options)

    def read(self, name: str, value: Any) -> str:
        """Return it."""
        if value.__class__ is not str or not self._match(value):
            rule = "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit"
            _fault("bad-id", f"{name} is {shown(value)}; it must be {rule}.")
        return str(value)


class Line(_Strict):
    """One line of printable text."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "minLength": 1, "maxLength": most}, **options)
        self.most = most

    def read(self, name: str, value: Any) -> str:
        """Return it."""
        if (
            value.__class__ is not str
            or not 1 <= len(value) <= self.most
            or not value.isprintable()
        ):
            rule = f"one line of 1 to {self.most} printable characters"
            _fault("bad-text", f"{name} is {shown(value)}; it must be {rule}.")
        return str(value)


class OneOf(_Strict):
    """One of the values of an enumeration."""

    def __init__(self, choices: type[StrEnum], **options: Any) -> None:
        self.choices = {choice.value: choice for choice in choices}
        super().__init__(metadata={"type": "string", "enum": list(self.choices)}, **options)

    def read(self, name: str, value: Any) -> Any:
        """Return the member."""
        found = self.choices.get(value) if value.__class__ is str else None
        if found is None:
            allowed = ", ".join(self.choices)
            _fault("not-one-of", f"{name} is {shown(value)}; it must be one of {allowed}.")
        return found


class Moment(_Strict):
    """An RFC 3339 time with an offset, of a year from 1970 to 2100."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "date-time"}, **options)

    def read(self, name: str, value: Any) -> datetime:
        """Return an aware time that keeps its own offset."""
        if value.__class__ is not str or not _TIME.match(value):
            example = "2026-11-01T07:30:00+01:00"
            _fault("bad-time", f"{name} is {shown(value)}; write it with its offset: {example}.")
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            _fault("bad-time", f"{name} is {shown(value)}; no such time: {error}.")
        offset = moment.utcoffset()
        if not 1970 <= moment.year <= 2100 or offset is None or abs(offset) > _FARTHEST:
            limits = "of a year from 1970 to 2100 and an offset within 14:00"
            _fault("out-of-range", f"{name} is {shown(value)}; it must be {limits}.")
        return moment
