"""Settings of a training: checks of the config that Hydra composed.

Hydra reports misspelt keys; these models report impossible values. Each message names the key, the
value and what is allowed. The files in ``conf/`` describe the keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    create_model,
    model_validator,
)

from bikefit.data.params import StrictModel, explain_errors
from bikefit.errors import BikefitError
from bikefit.losses import LossName

Finite = Annotated[float, Field(allow_inf_nan=False)]
Strength = Annotated[Finite, Field(ge=0)]
Probability = Annotated[Finite, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
DEFAULT_ACTIVATION: Literal["gelu"] = "gelu"  # omitted in labels


class ConfigError(BikefitError):
    """A setting is wrong."""


class Data(StrictModel):
    """The table and the fraction of its training rows."""

    name: str
    root: str = "data/features"
    fraction: Annotated[Finite, Field(gt=0, le=1)] = 1.0

    @property
    def path(self) -> Path:
        """Return the folder of the table."""
        return Path(self.root) / self.name


class Layer(BaseModel):
    """An entry of ``network.layers``.

    ``name`` is ``block.part``. ``_target_`` is a module of torch or bikefit.nn, or a function. All
    other keys are arguments of the module; the number of inputs may be omitted.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue]

    name: Annotated[str, Field(pattern=r"^[a-z]\w*(\.[a-z]\w*)?$")]
    target: Annotated[str, Field(alias="_target_")]

    @property
    def args(self) -> dict[str, Any]:
        """Return the arguments of the module."""
        return dict(self.model_extra or {})


class NetworkSettings(StrictModel):
    """A list of layers, or the widths of a multilayer perceptron or a linear model.

    ``allow`` lists packages other than torch whose functions and classes may be layers. ``lr`` is
    the default of ``optimizer.lr``.
    """

    name: str
    hidden: tuple[Count, ...] = ()
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid", "identity"] = DEFAULT_ACTIVATION
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] | None = None
    lr: Annotated[Finite, Field(gt=0)] | None = None
    allow: tuple[Annotated[str, Field(pattern=r"^[A-Za-z]\w*(\.\w+)*$")], ...] | None = None

    @model_validator(mode="after")
    def _check_widths(self) -> NetworkSettings:
        if self.layers is not None:
            if self.hidden:
                raise ValueError("give either layers or hidden, not both")
        elif bool(self.hidden) == (self.name == "linear"):
            raise ValueError(
                "give at least one width in hidden, or use network=linear, which has "
                f"none; got hidden={list(self.hidden)}"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the units of each linear layer, including the output."""
        units = [layer.args.get("out_features") for layer in self.layers or ()]
        return (*self.hidden, *(width for width in units[:-1] if isinstance(width, int)), 1)


class Strengths(StrictModel):
    """Strengths of regularization, 0 for none; titles are their names in labels."""

    l1: Strength = Field(0.0, title="l1 λ")
    l2: Strength = Field(0.0, title="l2 λ")
    lp: Strength = Field(0.0, title="lp λ")
    weight_decay: Strength = Field(0.0, title="weight decay λ")
    dropout: Probability = Field(0.0, title="dropout p")


STRENGTHS = {key: str(field.title) for key, field in Strengths.model_fields.items()}
"""Keys of the strengths, with their names in labels."""
_optional: Any = {
    key: (field.rebuild_annotation() | None, None) for key, field in Strengths.model_fields.items()
}
# Strengths of one layer, which replace the general strengths unless they are None.
LayerStrengths: Any = create_model("LayerStrengths", __base__=StrictModel, **_optional)


class Regularization(Strengths):
    """Regularization methods with their strengths."""

    name: str = "none"
    p_norm: Annotated[Finite, Field(ge=1)] = 1.5
    proximal: bool = False
    on: Literal["all", "weights"] = "all"
    dropout_scaling: Literal["inverted", "lecture"] = "inverted"
    averaged: Annotated[int, Field(ge=0)] = 0
    batch_norm: Literal["none", "before", "after"] = "none"
    patience: Count | None = None
    layers: dict[str, LayerStrengths] = Field(default_factory=dict)

    def of(self, block: str, key: str) -> float:
        """Return the strength of a layer; ``key`` is one of STRENGTHS."""
        strength = getattr(self.layers.get(block), key, None)
        return float(getattr(self, key) if strength is None else strength)


class Optimizer(StrictModel):
    """Optimizer, learning rate and learning-rate schedule."""

    name: Literal["adam", "adamw", "sgd"]
    lr: Annotated[Finite, Field(gt=0)]
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"


class Training(StrictModel):
    """Number of epochs, batch size and length of the probe."""

    epochs: Count
    batch_size: Count
    probe: Annotated[float, Field(ge=0, le=1)] = 0.1

    @property
    def probe_epochs(self) -> int:
        """Return the number of epochs of the probe, which may be 0."""
        return int(self.probe * self.epochs)


class Validation(StrictModel):
    """How a configuration is validated.

    holdout: on the validation rows of the table. kfold: by cross-validation. resample: on the
    validation rows, with training sets drawn at random.
    """

    name: Literal["holdout", "kfold", "resample"]
    folds: Count = 1
    sets: Count | None = None

    @property
    def networks(self) -> int:
        """Return the number of networks of a job: one, or one per fold or training set."""
        return {"holdout": 1, "kfold": self.folds, "resample": self.sets or 0}[self.name]

    @model_validator(mode="after")
    def _check_numbers(self) -> Validation:
        if self.name != "holdout" and self.networks < 2:
            key, value = ("folds", self.folds) if self.name == "kfold" else ("sets", self.sets)
            raise ValueError(f"{self.name} needs at least 2 {key}, got {key}={value}")
        return self


class Trainer(StrictModel):
    """Device and display."""

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    progress: bool = True


class Tracking(StrictModel):
    """Experiment and artifacts in MLflow."""

    experiment: str
    weights: bool = True
    predictions: bool = True
    record: str | None = None


class Settings(StrictModel):
    """All settings of a job."""

    data: Data
    network: NetworkSettings
    regularization: Regularization
    optimizer: Optimizer
    training: Training
    validation: Validation
    trainer: Trainer
    tracking: Tracking
    loss: LossName
    seed: Annotated[int, Field(ge=0)]
    rerun: bool = False

    @model_validator(mode="after")
    def _check_batch_size(self) -> Settings:
        """A batch of one row has no variance. A batch is never smaller: see training.Batches."""
        targets = [layer.target for layer in self.network.layers or ()]
        if self.regularization.batch_norm != "none":
            targets.append("BatchNorm")
        if self.training.batch_size < 2 and any("BatchNorm" in target for target in targets):
            raise ValueError(
                "training.batch_size = 1: batch normalization needs at least 2 rows in a batch"
            )
        return self

    @model_validator(mode="after")
    def _check_layers(self) -> Settings:
        layers, r = self.network.layers, self.regularization
        if layers is None:
            blocks = ["input", *(f"hidden{i + 1}" for i in range(len(self.network.hidden)))]
            blocks.append("output")
        elif r.batch_norm != "none":
            raise ValueError(
                f"regularization.batch_norm = {r.batch_norm!r}: the network {self.network.name} is "
                "a list of layers, so batch norm must be in this list"
            )
        else:
            blocks = list(dict.fromkeys(layer.name.split(".")[0] for layer in layers))
        for name in r.layers:
            if name not in blocks:
                raise ValueError(
                    f"regularization.layers.{name}: this network has no such layer; "
                    f"allowed are {', '.join(blocks)}"
                )
        return self


def parse(values: dict[str, Any]) -> Settings:
    """Check a resolved config and return it as settings.

    A ConfigError has one line per wrong key.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as errors:
        raise ConfigError(explain_errors(errors)) from None


def flat(settings: Settings) -> dict[str, str | int | float | bool]:
    """Return settings by ``group.key``, without null values, device, display and tracking."""
    omitted: Any = {"trainer": True, "tracking": True, "rerun": True, "network": {"lr"}}
    values = settings.model_dump(exclude=omitted, exclude_none=True, by_alias=True)
    if layers := values["network"].pop("layers", None):
        values["network"]["layers"] = {layer.pop("name"): layer for layer in layers}
    return dict(_pairs("", values))


def _pairs(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _pairs(f"{key}.{name}".lstrip("."), inner)
    elif isinstance(value, list | tuple):
        yield key, "[" + ",".join(map(str, value)) + "]"
    else:
        yield key, value


# Keys that do not influence a result.
NOT_DETERMINING: Any = {
    "tracking": True,
    "rerun": True,
    "trainer": {"progress"},
    "data": {"root"},
    "network": {"name", "lr"},
    "regularization": {"name"},
}


def configuration_id(settings: Settings) -> str:
    """Return the id of a configuration, 12 hexadecimal digits.

    Runs that differ only in seed, fold or device have the same id.
    """
    omitted = NOT_DETERMINING | {"seed": True, "trainer": True}
    config = settings.model_dump(mode="json", by_alias=True, exclude=omitted)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def regularization_kind(settings: Settings) -> str:
    """Return the methods of all layers without their strengths: "l2 + dropout", or "none"."""
    r = settings.regularization
    every = (r, *r.layers.values())
    kinds = [key for key in STRENGTHS if any(getattr(strengths, key) for strengths in every)]
    kinds += ["batch_norm"] * (r.batch_norm != "none")
    kinds += ["early_stopping"] * (r.patience is not None)
    return " + ".join(kinds).replace("_", " ") or "none"


def regularization_label(settings: Settings) -> str:
    """Return the regularization methods with their strengths: "l2 λ=0.001 + dropout p=0.3"."""
    r = settings.regularization
    general = {key: value for key in STRENGTHS if (value := getattr(r, key))}
    options = {
        "proximal": r.proximal,
        "on weights": r.on == "weights" and bool(general.keys() - {"dropout"}),
        "lecture scaling": r.dropout_scaling == "lecture",
        f"batch norm {r.batch_norm}": r.batch_norm != "none",
        f"early stopping {r.patience}": r.patience is not None,
    }
    names = STRENGTHS | {"lp": f"l{r.p_norm:g} λ"}
    parts = [f"{names[key]}={value:g}" for key, value in general.items()]
    parts += [option for option, used in options.items() if used]
    for block, strengths in r.layers.items():
        values = strengths.model_dump(exclude_none=True)
        parts += [f"{block} {names[key]}={value:g}" for key, value in values.items()]
    return " + ".join(parts) or "none"


def network_label(network: NetworkSettings) -> str:
    """Return the name of a network: "mlp 256×256", "mlp 64 relu", "linear"."""
    parts = [network.name, "×".join(map(str, network.hidden))]
    if network.hidden and network.activation != DEFAULT_ACTIVATION:
        parts.append(network.activation)
    return " ".join(filter(None, parts))


def run_name(settings: Settings, fold: int | None = None) -> str:
    """Return the name of a run: "dropout p=0.3 · mlp 256×256 · seed 1"."""
    parts = [regularization_label(settings), network_label(settings.network)]
    parts.append(f"seed {settings.seed}")
    if settings.data.fraction < 1:
        parts.append(f"{settings.data.fraction:.0%} of rows")
    if fold is not None:
        parts.append(f"{'set' if settings.validation.name == 'resample' else 'fold'} {fold}")
    return " · ".join(parts)
