"""`params.yaml`: each stage reads and checks its own section."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from bikefit.data.checks import StrictModel, explain
from bikefit.data.stage import DataError

PARAMS = Path("params.yaml")


S = TypeVar("S", bound=StrictModel)


def read_section(name: str, model: type[S], path: Path = PARAMS) -> S:
    """Read one section of `params.yaml` and check it against its model.

    Raises:
        DataError: naming each wrong key, its value and what is allowed.
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


def check(name: str, model: type[S], value: Any) -> S:
    """Make a section's model of plain values; `name` stands before the keys in an error."""
    try:
        return model.model_validate(value)
    except ValidationError as errors:
        raise DataError(explain(errors, model, name)) from None
