"""The base of what requests say: JSON whose texts are Unicode."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator

MOST_VERSION = 2**31 - 1
"""The stores keep a version's number in 32 bits."""


class Body(BaseModel):
    """A request's JSON; half of a surrogate pair, which no text can hold, is refused wherever it stands."""

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, values: Any) -> Any:
        waiting = [values]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += [*value, *value.values()]
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str) and not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(f"a text is no valid unicode: {error.reason}") from None
        return values
