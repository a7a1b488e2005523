"""What the schemas of requests are made of: strict and loose models, names, lengths."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

T = TypeVar("T")
_MOST_NAMES = 1000  # of one object


def few_names(data: Any) -> Any:
    """An object with few enough fields, as each that is wrong is an error of its own, of a kilobyte."""
    if isinstance(data, dict) and len(data) > _MOST_NAMES:
        raise PydanticCustomError("too_long", "Input has more than 1000 fields")
    return data


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16), BeforeValidator(few_names),
]  # fmt: skip
# its reading ends at the first wrong element: a request has room for millions, which took minutes and all memory
Listed = Annotated[list[T], Field(fail_fast=True)]
One = Annotated[float, Field(ge=1, le=1)]  # sampling is the model's business: only the default is accepted
Zero = Annotated[float, Field(ge=0, le=0)]
Short = Annotated[str, StringConstraints(max_length=512)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_names(cls, data: Any) -> Any:
        return few_names(data)


class Loose(BaseModel):
    """Items and messages that clients send back as they got them, with whatever their library added."""

    model_config = ConfigDict(strict=True, extra="ignore")
