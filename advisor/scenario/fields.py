"""The kinds of values that keys of a `scenario.yaml` hold, each with its complaint in our words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError


def wrong(what: str, remedy: str) -> PydanticCustomError:
    """A validation error in our words; `what` continues a sentence that starts with the key."""
    return PydanticCustomError("advisor", "{what} {remedy}", {"what": what, "remedy": remedy})


def _share(value: float) -> float:
    """A fraction; 85 was meant as 0.85."""
    if 1 < value <= 100:
        raise wrong(f"is {value:g}, but scores lie between 0 and 1:", f"write {value / 100:g}.")
    if not 0 <= value <= 1:
        raise wrong(f"is {value:g}, but scores lie between 0 and 1.", "")
    return value


def _inner_share(value: float) -> float:
    value = _share(value)
    if value in (0, 1):
        raise wrong(
            f"is {value:g}, which no finite number of samples can prove or refute.", "Write 0.99, for instance."
        )
    return value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _named_all(value: Any) -> Any:
    if value == "auto":
        return None
    return [_named(item) for item in value] if isinstance(value, list) else value


def _label(value: Any) -> Any:
    """Labels that YAML reads as numbers or truth values, written as the data's are."""
    return value if isinstance(value, str) or value is None else json.dumps(value)


Share = Annotated[float, AfterValidator(_share), Field(json_schema_extra={"minimum": 0, "maximum": 1})]
InnerShare = Annotated[
    float, AfterValidator(_inner_share), Field(json_schema_extra={"exclusiveMinimum": 0, "exclusiveMaximum": 1})
]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Label = Annotated[
    str, BeforeValidator(_label), Field(min_length=1), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1)]


class Named(BaseModel):
    """A name with options beside it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Text

    @property
    def options(self) -> Mapping[str, Any]:
        """Everything beside the name."""
        return self.model_extra or {}


_NAMED_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    ]
}
_TECHNIQUES_SCHEMA = {"anyOf": [{"const": "auto"}, {"type": "array", "items": _NAMED_SCHEMA, "minItems": 1}]}
NamedOrText = Annotated[Named, BeforeValidator(_named), WithJsonSchema(_NAMED_SCHEMA)]
"""`NAME`, or `{name: NAME, option: value}`."""
NamedList = Annotated[
    Annotated[list[Named], Field(min_length=1)] | None,
    BeforeValidator(_named_all),
    WithJsonSchema(_TECHNIQUES_SCHEMA),
]
"""A list of these; None for `auto`."""
