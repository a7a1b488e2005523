"""What the schemas of requests are made of: strict and loose models, names, lengths."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
One = Annotated[float, Field(ge=1, le=1)]  # sampling is the model's business: only the default is accepted
Zero = Annotated[float, Field(ge=0, le=0)]
Short = Annotated[str, StringConstraints(max_length=512)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Loose(BaseModel):
    """Items and messages that clients send back as they got them, with whatever their library added."""

    model_config = ConfigDict(strict=True, extra="ignore")
