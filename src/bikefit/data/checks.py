"""Values that a user wrote, checked: every message names the key, the value and what is allowed."""

import re
import typing
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class StrictModel(BaseModel):
    """A group of keys that does not change and refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(errors: ValidationError, model: type[StrictModel], name: str = "") -> str:
    """Turn what pydantic found into a line for each wrong key; `name` stands before the keys."""
    return "\n".join(dict.fromkeys(_line(name, model, error) for error in errors.errors()))


SECRETS = (
    r"(?<=://)[^/\s]+(?=@)",
    r"(?i)(?<=[?&;])(\w*(?:password|passwd|pwd|token|secret|key|signature|sig))=[^&;\s'\"]+",
)


def masked(text: str) -> str:
    """Hide what may be a password in the addresses of a text, for messages, logs and records."""
    user, query = SECRETS
    return re.sub(query, r"\1=…", re.sub(user, "…", text))


def _line(name: str, model: type[StrictModel], error: Any) -> str:
    key = ".".join([*([name] if name else []), *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed: {', '.join(_keys(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"{key}: missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def _keys(model: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that the part of `model` at `location` knows."""
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation
        else:  # dict[str, X], list[X] or tuple[X, ...]: go on with X
            model = [a for a in typing.get_args(model) if a is not Ellipsis][-1]
        options = [a for a in typing.get_args(model) if a is not type(None)]
        if len(options) == 1:  # X | None
            model = options[0]
    return list(model.model_fields)
