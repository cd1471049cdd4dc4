"""The filter criteria of a dynamic segment. Tenants write them, so they are checked before anything is made of them.

Source: `crm.segments.filter_criteria` of the platform.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.settings.types import SegmentReading

MAX_CONDITIONS = 200
MAX_ITEMS = 1_000
_MAX_FIELD_CHARACTERS = 200
_MAX_TEXT_CHARACTERS = 10_000

_GREATEST_NUMBER = 10**100

_Bounds = Field(ge=-_GREATEST_NUMBER, le=_GREATEST_NUMBER)
Number = Annotated[int, _Bounds] | Annotated[float, _Bounds]
Scalar = bool | Number | Annotated[str, StringConstraints(max_length=_MAX_TEXT_CHARACTERS)]


class Operator(StrEnum):
    """How a field is compared with a value."""

    EQ = "eq"
    NEQ = "neq"
    GT = "gt"
    LT = "lt"
    GTE = "gte"
    LTE = "lte"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    IN = "in"
    NOT_IN = "not_in"
    IS_SET = "is_set"
    IS_NOT_SET = "is_not_set"


_OF_LISTS = {Operator.IN, Operator.NOT_IN}
_OF_NOTHING = {Operator.IS_SET, Operator.IS_NOT_SET}
_OF_TEXT = {Operator.CONTAINS, Operator.NOT_CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH}


class Condition(BaseModel):
    """One comparison. `value` is a scalar, a list for `in` and `not_in`, and of no meaning for `is_set`."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    field: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_FIELD_CHARACTERS)]
    operator: Annotated[Operator, Field(strict=False)]
    value: Scalar | Annotated[list[Scalar], Field(max_length=MAX_ITEMS)] | None = None

    @model_validator(mode="after")
    def _check_value(self) -> "Condition":
        if _has_nul(self.field) or _has_nul(self.value):
            raise ValueError("the NUL character is not allowed")
        if self.operator in _OF_NOTHING:
            return self
        if self.operator in _OF_LISTS:
            if not isinstance(self.value, list):
                raise ValueError(f"{self.operator} needs a list")
        elif self.value is None or isinstance(self.value, list):
            raise ValueError(f"{self.operator} needs a single value")
        elif self.operator in _OF_TEXT and not isinstance(self.value, str):
            raise ValueError(f"{self.operator} needs a text")
        return self


class Criteria(BaseModel):
    """What a contact must fulfil: all of the conditions, or any. Without conditions every contact does."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    operator: Literal["and", "or"] = "and"
    conditions: Annotated[tuple[Condition, ...], Field(max_length=MAX_CONDITIONS, strict=False)] = ()


def parse_criteria(raw: object, reading: SegmentReading = SegmentReading.STRICT) -> Criteria:
    """Check criteria as stored, without the conditions that the platform's reading ignores, if it is that one.

    Raises JobFailedError that names what is wrong, without the values.
    """
    if reading is SegmentReading.PLATFORM:
        raw = _without_ignored(raw)
    try:
        return Criteria.model_validate({} if raw is None else raw)
    except ValidationError as error:
        problems = [f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()[:5]]
        raise JobFailedError(f"the segment's criteria cannot be used: {'; '.join(problems)}") from None


def _without_ignored(raw: object) -> object:
    if not isinstance(raw, dict) or not isinstance(raw.get("conditions"), list):
        return raw
    return {**raw, "conditions": [condition for condition in raw["conditions"] if not _is_ignored(condition)]}


def _is_ignored(condition: object) -> bool:
    """Return whether a condition has an operator that is not known, or asks for one of no values."""
    if not isinstance(condition, dict) or not isinstance(condition.get("operator"), str):
        return False
    operator = condition["operator"]
    return operator not in {each.value for each in Operator} or (operator in _OF_LISTS and condition.get("value") == [])


def _place(location: tuple[int | str, ...]) -> str:
    # Beyond the field's name the location tells pydantic's union members, which mean nothing to a reader.
    return ".".join(str(part) for part in location[:3]) or "criteria"


def _has_nul(value: object) -> bool:
    if isinstance(value, list):
        return any(_has_nul(item) for item in value)
    return isinstance(value, str) and "\0" in value
