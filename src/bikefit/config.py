"""The door for training settings: what Hydra composed, checked value by value.

Hydra itself refuses a misspelt key; these models refuse impossible values. Each message names
the key, the value and what is allowed. Nothing here is heavy to import.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bikefit.data.params import StrictModel, explain
from bikefit.errors import BikefitError

Finite = Annotated[float, Field(allow_inf_nan=False)]
Strength = Annotated[Finite, Field(ge=0)]
Probability = Annotated[Finite, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
PLAIN: Literal["gelu"] = "gelu"  # activation that labels leave out
# Strengths of regularization, 0 for none: how labels write them, and whether more of it makes a
# network more (+1) or less (-1) flexible.
STRENGTHS: dict[str, tuple[str, int]] = {
    "l1": ("l1 λ", -1), "l2": ("l2 λ", -1), "lp": ("lp λ", -1),
    "weight_decay": ("weight decay λ", -1), "dropout": ("dropout p", -1),
}  # fmt: skip


class ConfigError(BikefitError):
    """A setting that training cannot start with."""


class Data(StrictModel):
    """Which table, and how much of its training rows."""

    name: str
    root: str = "data/features"
    fraction: Annotated[Finite, Field(gt=0, le=1)] = 1.0

    @property
    def path(self) -> Path:
        """The folder of the table."""
        return Path(self.root) / self.name


def _plain(value: Any) -> Any:
    """Let through what a layer may be told: finite numbers, words, and lists of them."""
    for one in value if isinstance(value, list) else [value]:
        finite = not isinstance(one, float) or math.isfinite(one)
        if not (finite and isinstance(one, str | int | float | None)):
            raise ValueError("must be a finite number, a word, true, false, null or a list of them")
    return value


class Layer(BaseModel):
    """One layer of a network that is written as a list.

    ``name`` is ``block.part``, ``_target_`` a torch module, one of ours or a function; all other
    keys are the module's arguments. The number of inputs may be left out: it follows from the
    layer before.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_plain)]]

    name: Annotated[str, Field(pattern=r"^[a-z]\w*(\.[a-z]\w*)?$")]
    target: Annotated[str, Field(alias="_target_")]

    @property
    def args(self) -> dict[str, Any]:
        """The module's arguments."""
        return dict(self.model_extra or {})


class NetworkSettings(StrictModel):
    """A list of layers, or its short form: a multilayer perceptron or a linear model.

    ``allow`` names packages whose functions and classes may be layers beside those of torch; ``lr``
    is the learning rate that suits the network, to which an optimizer may refer.
    """

    name: str
    hidden: tuple[Count, ...] = ()
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid", "identity"] = PLAIN
    layers: tuple[Layer, ...] | None = None
    lr: Annotated[Finite, Field(gt=0)] | None = None
    allow: tuple[Annotated[str, Field(pattern=r"^[A-Za-z]\w*(\.\w+)*$")], ...] | None = None

    @model_validator(mode="after")
    def _some_layer(self) -> NetworkSettings:
        if self.layers is not None:
            if not self.layers:
                raise ValueError("no layers: the list network.layers is empty")
            if self.hidden:
                raise ValueError("give either layers or hidden, not both")
            return self
        if not self.hidden and self.name != "linear":
            raise ValueError("no layers: give at least one width in hidden, or use network=linear")
        if self.hidden and self.name == "linear":
            raise ValueError(f"linear has no hidden layers, got hidden={list(self.hidden)}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each linear layer, the output's included; of a list, as far as it says them."""
        given = [layer.args.get("out_features") for layer in self.layers or ()]
        return (*self.hidden, *(width for width in given[:-1] if isinstance(width, int)), 1)


class LayerStrengths(StrictModel):
    """Strengths of one layer, which take the place of the general ones."""

    l1: Strength | None = None
    l2: Strength | None = None
    lp: Strength | None = None
    weight_decay: Strength | None = None
    dropout: Probability | None = None


class Regularization(StrictModel):
    """What keeps the network from fitting the noise; ``conf/regularization`` explains the keys."""

    name: str = "none"
    l1: Strength = 0.0
    l2: Strength = 0.0
    lp: Strength = 0.0
    p_norm: Annotated[Finite, Field(ge=1)] = 1.5
    proximal: bool = False
    on: Literal["all", "weights"] = "all"
    weight_decay: Strength = 0.0
    dropout: Probability = 0.0
    dropout_scaling: Literal["inverted", "lecture"] = "inverted"
    averaged: Annotated[int, Field(ge=0)] = 0
    batch_norm: Literal["none", "before", "after"] = "none"
    patience: Count | None = None
    layers: dict[str, LayerStrengths] = Field(default_factory=dict)

    def of(self, block: str, key: str) -> float:
        """Return a strength (l1, l2, lp, weight_decay or dropout) for one layer by its name."""
        own = getattr(self.layers.get(block, LayerStrengths()), key)
        return float(getattr(self, key) if own is None else own)


class Optimizer(StrictModel):
    """adam, adamw or sgd, with a learning rate of each member's own."""

    name: Literal["adam", "adamw", "sgd"]
    lr: Annotated[Finite, Field(gt=0)]
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"


class Training(StrictModel):
    """How long and in what portions, and how long a look ahead goes on afterwards."""

    epochs: Count
    batch_size: Count
    probe: Annotated[float, Field(ge=0, le=1)] = 0.1

    @property
    def probe_epochs(self) -> int:
        """Epochs of the look ahead; none where training itself has too few."""
        return int(self.probe * self.epochs)


class Validation(StrictModel):
    """holdout: the validation rows of the table; kfold: cross-validation."""

    name: Literal["holdout", "kfold"]
    folds: Count = 1

    @model_validator(mode="after")
    def _enough_folds(self) -> Validation:
        if self.name == "kfold" and self.folds < 2:
            raise ValueError(f"kfold needs at least 2 folds, got folds={self.folds}")
        return self


class Trainer(StrictModel):
    """What does not change a result (up to rounding): device and display."""

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    progress: bool = True


class Tracking(StrictModel):
    """Where and what MLflow keeps."""

    experiment: str
    weights: bool = True
    predictions: bool = True
    record: str | None = None


class Settings(StrictModel):
    """One job: everything that ``conf/`` says about a training."""

    data: Data
    network: NetworkSettings
    regularization: Regularization
    optimizer: Optimizer
    training: Training
    validation: Validation
    trainer: Trainer
    tracking: Tracking
    loss: Literal["mse", "poisson"]
    seed: Annotated[int, Field(ge=0)]
    rerun: bool = False

    @model_validator(mode="after")
    def _batch_norm_has_a_place(self) -> Settings:
        if self.network.layers is not None and self.regularization.batch_norm != "none":
            raise ValueError(
                f"regularization.batch_norm = {self.regularization.batch_norm!r}: the network "
                f"{self.network.name} is a list of layers, so batch norm has to stand in that list"
            )
        return self

    @model_validator(mode="after")
    def _layers_exist(self) -> Settings:
        blocks = layer_names(self.network)
        for name in self.regularization.layers:
            if name not in blocks:
                raise ValueError(
                    f"regularization.layers.{name}: this network has no such layer; "
                    f"allowed are {', '.join(blocks)}"
                )
        return self


def layer_names(network: NetworkSettings) -> list[str]:
    """List the names that ``regularization.layers`` may use."""
    if network.layers is not None:
        return list(dict.fromkeys(layer.name.split(".", 1)[0] for layer in network.layers))
    return ["input", *(f"hidden{i + 1}" for i in range(len(network.hidden))), "output"]


def parse(values: dict[str, Any]) -> Settings:
    """Check a resolved config and return it as settings.

    Raises:
        ConfigError: names each wrong key, its value and what is allowed.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as errors:
        raise ConfigError(explain(errors, Settings)) from None


def flat(settings: Settings) -> dict[str, str | int | float | bool]:
    """Write settings as ``group.key`` pairs; empty and unset ones are left out."""
    pairs: dict[str, str | int | float | bool] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for inner in value:
                walk(f"{prefix}.{inner['name']}", {k: v for k, v in inner.items() if k != "name"})
        elif isinstance(value, list | tuple):
            pairs[prefix] = "[" + ",".join(map(str, value)) + "]"
        elif value is not None and not (isinstance(value, float) and math.isnan(value)):
            pairs[prefix] = value

    silent: Any = {"trainer": True, "tracking": True, "rerun": True, "network": {"lr"}}
    walk("", settings.model_dump(exclude=silent, by_alias=True))
    return pairs


# Keys that change where a result is stored or how it is displayed, but not the result.
NOT_DETERMINING: Any = {
    "tracking": True, "rerun": True, "trainer": {"progress"}, "data": {"root"},
    "network": {"name", "lr"}, "regularization": {"name"},
}  # fmt: skip


def configuration_id(settings: Settings) -> str:
    """Return the id of a configuration: a hash of all settings except the seed, 12 hex digits.

    Runs that differ only in seed or fold share it.
    """
    config = settings.model_dump(mode="json", by_alias=True, exclude=NOT_DETERMINING)
    del config["seed"]
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def regularization_kind(settings: Settings) -> str:
    """Return the regularization methods without their strengths: "l2 + dropout", or "none".

    Methods of single layers count as the same method.
    """
    r = settings.regularization
    names = {key: key.replace("_", " ") for key in STRENGTHS}
    kinds = [
        name
        for key, name in names.items()
        if getattr(r, key) or any(getattr(layer, key) for layer in r.layers.values())
    ]
    if r.batch_norm != "none":
        kinds.append("batch norm")
    if r.patience is not None:
        kinds.append("early stopping")
    return " + ".join(kinds) or "none"


def describe(settings: Settings, fold: int | None = None) -> str:
    """Say what a run is: "dropout p=0.3 · mlp 256×256 · seed 1"."""
    parts = [
        regularization_label(settings),
        network_label(settings.network),
        f"seed {settings.seed}",
    ]
    if settings.data.fraction < 1:
        parts.append(f"{settings.data.fraction:.0%} of rows")
    if fold is not None:
        parts.append(f"fold {fold}")
    return " · ".join(parts)


def network_label(network: NetworkSettings) -> str:
    """Say what the network is: "mlp 256×256", "mlp 64 relu", "linear"."""
    activation = network.activation if network.hidden and network.activation != PLAIN else ""
    return " ".join([network.name, "×".join(map(str, network.hidden)), activation]).strip()


def regularization_label(settings: Settings) -> str:
    """Name every method in use with its strength: "l2 λ=0.001 + dropout p=0.3"."""
    r = settings.regularization
    signs = {key: sign for key, (sign, _) in STRENGTHS.items()} | {"lp": f"l{r.p_norm:g} λ"}
    parts = [f"{sign}={getattr(r, key):g}" for key, sign in signs.items() if getattr(r, key)]
    if r.proximal:
        parts.append("proximal")
    if r.on == "weights" and any(getattr(r, key) for key in ("l1", "l2", "lp", "weight_decay")):
        parts.append("on weights")
    if r.dropout_scaling == "lecture":
        parts.append("lecture scaling")
    if r.batch_norm != "none":
        parts.append(f"batch norm {r.batch_norm}")
    if r.patience is not None:
        parts.append(f"early stopping {r.patience}")
    for name, layer in r.layers.items():
        given = layer.model_dump(exclude_none=True)
        parts += [f"{name} {signs[key]}={value:g}" for key, value in given.items()]
    return " + ".join(parts) or "none"
