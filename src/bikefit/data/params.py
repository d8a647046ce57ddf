"""Parameters of the stages: read from `params.yaml`, checked, and explained if wrong."""

import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bikefit.errors import DataError

PARAMS = Path("params.yaml")


class StrictModel(BaseModel):
    """Base class of settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=StrictModel)


def read_section(name: str, model: type[M], path: Path = PARAMS) -> M:
    """Read a section of `params.yaml` and check it against its model.

    Raises:
        DataError: The file or the section is missing, or values are wrong. The message names each
            wrong key, its value and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} not found: run from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or name not in content:
        raise DataError(f"{path} has no section '{name}'")
    return check(name, model, content[name])


def check(name: str, model: type[M], value: Any) -> M:
    """Return `value` as an instance of `model`; error messages put `name` before each key."""
    try:
        return model.model_validate(value)
    except ValidationError as errors:
        raise DataError(explain(errors, model, name)) from None


def explain(errors: ValidationError, model: type[StrictModel], name: str = "") -> str:
    """Return one line per wrong key: the key (after `name`), its value and what is allowed."""
    return "\n".join(dict.fromkeys(_line(name, model, error) for error in errors.errors()))


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
    """Return the keys that are allowed in the part of `model` at `location`."""
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation
        else:  # dict[str, X], list[X] or tuple[X, ...]: continue with X
            model = [a for a in typing.get_args(model) if a is not Ellipsis][-1]
        options = [a for a in typing.get_args(model) if a is not type(None)]
        if len(options) == 1:  # X | None
            model = options[0]
    return list(model.model_fields)
