"""Reading and validation of `params.yaml`, and messages for wrong settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from bikefit.errors import DataError

PARAMS = Path("params.yaml")

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]

TRUTH_VALUES = "; YAML reads on, off, yes and no without quotes as true and false"


class StrictModel(BaseModel):
    """Base class of settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_key(cls, values: Any) -> Any:
        allowed = list(cls.model_fields)
        unknown = [key for key in values if key not in allowed] if type(values) is dict else []
        if unknown:
            hint = TRUTH_VALUES if any(isinstance(key, bool) for key in unknown) else ""
            keys = ", ".join(map(str, unknown))
            raise ValueError(f"unknown key {keys}; allowed: {', '.join(allowed)}{hint}")
        return values


M = TypeVar("M", bound=StrictModel)


def read_section(name: str, model: type[M], path: Path = PARAMS) -> M:
    """Return a section of `params.yaml` as an instance of `model`.

    Raises:
        DataError: The message names each wrong key, its value and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} not found: run from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or name not in content:
        raise DataError(f"{path} has no section '{name}'")
    return validate(name, model, content[name])


def validate(name: str, model: type[M], value: Any) -> M:
    """Return `value` as an instance of `model`; in error messages, `name` precedes each key."""
    try:
        return model.model_validate(value)
    except ValidationError as errors:
        raise DataError(explain_errors(errors, name)) from None


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Prepend `where` to the message of a DataError in the block."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def explain_errors(errors: ValidationError, name: str = "") -> str:
    """Return a line of text per wrong key: the key after `name`, its value and what is allowed."""
    lines = []
    for error in errors.errors():
        key = ".".join([*([name] if name else []), *(str(part) for part in error["loc"])])
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "missing":
            lines.append(f"{key}: missing")
        elif error["type"] == "value_error" and isinstance(error["input"], dict):
            lines.append(f"{key}: {message}" if key else message)
        else:
            if error["type"] == "tuple_type":
                message = "must be a list, such as [64,64]"
            elif isinstance(error["input"], bool):
                message += TRUTH_VALUES
            lines.append(f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}")
    return "\n".join(dict.fromkeys(lines))
