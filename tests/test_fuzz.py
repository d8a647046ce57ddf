"""Random settings, layers, parameters and tables are accepted, or refused with a message."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores
from bikefit.config import ConfigError, Settings, flat, parse, run_name
from bikefit.data.bikes.clean import RAW, clean, read_raw
from bikefit.data.bikes.columns import SCALES
from bikefit.data.bikes.faults import CleanParams
from bikefit.data.params import read_section
from bikefit.errors import DataError
from bikefit.nn.networks import build
from bikefit.nn.specs import LayerSpec
from conftest import ROOT
from synthetic import raw_hours


def examples(count: int) -> settings:
    # The same examples in each run: a test must not fail by chance in a change of something else.
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


SPECIAL = st.sampled_from(["1e400", "nan", "-0.0", "0x10", "1_000", "${seed}", "!!python/x", "٣"])
NUMBERS = st.integers() | st.floats() | st.integers(-3, 3) | st.floats(0, 1)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | SPECIAL,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


def paths(value: Any, *before: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value in nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*before, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, *before, key)


@st.composite
def damaged(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, Any]:
    """Return valid values with some of them replaced or deleted, or others added."""
    values = deepcopy(valid)
    for path in draw(st.lists(st.sampled_from(list(paths(valid))), min_size=1, max_size=3)):
        parent: Any = values
        try:
            for key in path[:-1]:
                parent = parent[key]
            change = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add"]))
            if change == "replace":
                parent[path[-1]] = draw(JUNK)
            elif change == "delete":
                del parent[path[-1]]
            elif isinstance(parent, dict):
                parent[draw(st.text(max_size=6))] = draw(JUNK)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change deleted it
    return values


MLP = stores.settings().model_dump(mode="json", by_alias=True)
MLP["regularization"]["layers"] = {"hidden1": {"l2": 0.1, "dropout": 0.2}}
LAYERS = [
    {"name": "hidden1.linear", "_target_": "torch.nn.Linear", "out_features": 8},
    {"name": "output.linear", "_target_": "torch.nn.Linear", "out_features": 1},
]
LIST = deepcopy(MLP) | {"network": {"name": "custom", "allow": ["numpy"], "layers": LAYERS}}


def check_settings(accepted: Settings) -> None:
    """Assert the properties that training relies on."""
    assert 0 < accepted.optimizer.lr < math.inf
    regularization = accepted.regularization
    for key in ("l1", "l2", "lp", "weight_decay"):
        assert 0 <= getattr(regularization, key) < math.inf
    assert 0 <= regularization.dropout < 1
    assert min(accepted.network.hidden, default=1) >= 1
    assert accepted.training.epochs >= 1
    assert run_name(accepted)
    assert all(isinstance(value, str | int | float) for value in flat(accepted).values())
    assert parse(accepted.model_dump(mode="json", by_alias=True)) == accepted


@pytest.mark.slow(seconds=5)
@examples(900)
@given(damaged(MLP) | damaged(LIST) | JUNK)
def test_settings(values: Any) -> None:
    try:
        accepted = parse(values)
    except ConfigError as error:
        assert str(error) and "pydantic" not in str(error)
    else:
        check_settings(accepted)


TORCH_NN = (
    "Linear Linear ReLU Conv1d LSTM Bilinear Embedding Flatten Module Sequential Softmax "
    "LayerNorm Dropout LazyLinear MultiheadAttention ModuleList functional.gelu NoSuchLayer"
)
TORCH = (
    "sin exp sum svd argmax isnan squeeze special.expit split unbind numel t complex "
    "empty_like load hub.load"
)
NAMED = [f"torch.nn.{name}" for name in TORCH_NN.split()]
NAMED += [f"torch.{name}" for name in TORCH.split()]
NAMED += [f"bikefit.nn.layers.{name}" for name in ("BatchNorm", "Dropout", "Function")]
TARGETS = st.sampled_from([*NAMED, "os.system", "torch", ""]) | st.text(max_size=8)
ARGUMENT_NAMES = (
    "in_features out_features bias features p eps scaling normalized_shape dim function "
    "kernel_size inplace x"
)
SMALL = st.integers(-2, 6) | st.floats(-1, 2) | st.booleans() | st.none() | st.text(max_size=3)
ARGUMENTS = st.dictionaries(
    st.sampled_from(ARGUMENT_NAMES.split()), SMALL | st.lists(SMALL, max_size=2), max_size=3
)
NAMES = st.sampled_from(["a.x", "a.y", "b.x", "b", "c.x", "output.linear"])
SPECS = st.lists(st.builds(LayerSpec, NAMES, TARGETS, ARGUMENTS), max_size=3)
LAST = LayerSpec("last.linear", "torch.nn.Linear", {"out_features": 1})


@pytest.mark.slow(seconds=5)
@examples(500)
@given(SPECS, st.booleans(), st.integers(1, 5))
@pytest.mark.filterwarnings("ignore")  # of torch, about unusual layers
def test_layers(specs: list[LayerSpec], with_output: bool, features: int) -> None:
    try:
        network = build([*specs, LAST] if with_output else specs, features)
    except ValueError as error:
        assert str(error)
        return
    network.eval()
    assert network(torch.zeros(3, features)).shape == (3,)


ODD = "1e400 -0 0x10 1_0 ١ NaT NA 9999-12-31 0001-01-01 \" '1' None 1. .5 1e-1 +1 1,5 2011-1-1 01"
ODD_CELLS = [*ODD.split(), "true", "½", " 1 ", "\x00", "\ufeff1"]
CELLS = st.text(max_size=10) | NUMBERS.map(str) | st.sampled_from(ODD_CELLS)
RULES = read_section("clean", CleanParams, ROOT / "params.yaml")
ROWS = [line.split(",") for line in raw_hours(1).to_csv(index=False).splitlines()]
LINES = st.integers(0, 24)


@pytest.mark.slow(seconds=7)
@examples(400)
@given(
    st.lists(st.tuples(LINES, st.integers(0, len(RAW)), CELLS), max_size=3),
    st.lists(LINES, max_size=2),
    st.lists(LINES, max_size=1),
)
def test_raw_tables(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, int, str]],
    deleted: list[int],
    repeated: list[int],
) -> None:
    rows = deepcopy(ROWS)
    for row, column, text in changes:
        rows[row][column] = text
    rows += [rows[i] for i in repeated]
    rows = [row for i, row in enumerate(rows) if i not in deleted]
    path = tmp_path_factory.getbasetemp() / "hour.csv"
    path.write_bytes("\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass"))
    try:
        raw = read_raw(path)
        hours = clean(raw, RULES)
    except DataError as error:
        assert str(error)
        return
    # Every number of an accepted table is the one that Python reads in its cell.
    names = [name.strip() for name in rows[0]]
    cells = [row for row in rows[1:] if any(map(str.strip, row))]
    assert set(RAW) <= set(names)
    assert len(raw) == len(hours) == len(cells)
    for name in set(RAW) - {"dteday"}:
        column = [float(row[names.index(name)].strip().strip('"')) for row in cells]
        assert column == raw[name].tolist()
    assert sorted(hours["rentals"]) == sorted(raw["cnt"])
    assert sorted(hours["temperature"]) == pytest.approx(sorted(-8 + 47 * raw["temp"]))
    assert all(raw[name].between(0, 1).all() for name, *_ in SCALES.values())
