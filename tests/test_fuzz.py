"""Whatever stands in a config or a table: a result that is right, or a clear error of our own.

Together at least 2,000 cases (`CASES`), each with as many wrong things as Hypothesis likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores
from bikefit.config import ConfigError, Settings, describe, flat, parse
from bikefit.data.clean import clean, read_raw
from bikefit.data.columns import RAW, SCALES
from bikefit.data.download import Download
from bikefit.data.faults import Clean
from bikefit.data.featurize import Featurize
from bikefit.data.params import read_section
from bikefit.errors import DataError
from bikefit.nn.networks import build
from bikefit.nn.specs import LayerSpec
from conftest import ROOT
from synthetic import raw_hours

CASES = {"configs": 900, "networks": 500, "tables": 400, "params": 400}


def cases(name: str) -> settings:
    slow_enough = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=CASES[name], deadline=None, suppress_health_check=slow_enough)


def test_there_are_enough_cases() -> None:
    assert sum(CASES.values()) >= 2000


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["1e400", "nan", "-0.0", "0x10", "1_000", "${seed}", "!!python/x", "٣"])
    | st.integers(-3, 3) | st.floats(0, 1)
)  # fmt: skip
JUNK = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


def paths(value: Any, *before: Any) -> Iterator[tuple[Any, ...]]:
    """Where something stands in nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*before, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, *before, key)


@st.composite
def spoilt(draw: st.DrawFn, sound: dict[str, Any]) -> dict[str, Any]:
    """Sound values with some of them replaced, taken away or added to."""
    values = deepcopy(sound)
    for path in draw(st.lists(st.sampled_from(list(paths(sound))), min_size=1, max_size=3)):
        place: Any = values
        try:
            for key in path[:-1]:
                place = place[key]
            what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
            if what == "replace":
                place[path[-1]] = draw(JUNK)
            elif what == "remove":
                del place[path[-1]]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=6))] = draw(JUNK)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    return values


MLP = stores.settings().model_dump(mode="json", by_alias=True)
MLP["regularization"]["layers"] = {"hidden1": {"l2": 0.1, "dropout": 0.2}}
LIST = deepcopy(MLP)
LIST["network"] = {"name": "custom", "allow": ["numpy"], "layers": [
    {"name": "hidden1.linear", "_target_": "torch.nn.Linear", "out_features": 8},
    {"name": "output.linear", "_target_": "torch.nn.Linear", "out_features": 1},
]}  # fmt: skip


def check_settings(found: Settings) -> None:
    """What training relies on holds of accepted settings."""
    assert found.optimizer.lr > 0
    assert math.isfinite(found.optimizer.lr)
    regularization = found.regularization
    for key in ("l1", "l2", "lp", "weight_decay"):
        assert 0 <= getattr(regularization, key) < math.inf
    assert 0 <= regularization.dropout < 1
    assert min(found.network.hidden, default=1) >= 1
    assert found.training.epochs >= 1
    assert describe(found)
    assert all(isinstance(value, str | int | float) for value in flat(found).values())
    assert parse(found.model_dump(mode="json", by_alias=True)) == found


@pytest.mark.slow(seconds=5)
@cases("configs")
@given(spoilt(MLP) | spoilt(LIST) | JUNK)
def test_a_config_is_accepted_or_explained(values: Any) -> None:
    try:
        found = parse(values)
    except ConfigError as error:
        assert str(error)
        assert "pydantic" not in str(error)
        return
    check_settings(found)


SECTIONS = {"download": Download, "clean": Clean, "featurize": Featurize}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.mark.slow(seconds=7)
@cases("params")
@given(st.sampled_from(sorted(SECTIONS)), st.data())
def test_params_are_accepted_or_explained(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    values = data.draw(spoilt({name: PARAMS[name]}))
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    try:
        read_section(name, SECTIONS[name], path)
    except DataError as error:
        assert str(error)


TARGETS = st.sampled_from([
    "torch.nn.Linear", "torch.nn.Linear", "torch.nn.ReLU", "torch.nn.Conv1d", "torch.nn.LSTM",
    "torch.nn.Bilinear", "torch.nn.Embedding", "torch.nn.Flatten", "torch.nn.Module",
    "torch.nn.Sequential", "torch.nn.Softmax", "torch.nn.LayerNorm", "torch.nn.Dropout",
    "torch.nn.LazyLinear", "torch.nn.MultiheadAttention", "torch.nn.ModuleList",
    "bikefit.nn.layers.BatchNorm", "bikefit.nn.layers.Dropout", "bikefit.nn.layers.Function",
    "torch.sin", "torch.exp", "torch.sum", "torch.svd", "torch.argmax", "torch.isnan",
    "torch.squeeze", "torch.special.expit", "torch.nn.functional.gelu",
    "torch.split", "torch.unbind", "torch.numel", "torch.t", "torch.complex", "torch.empty_like",
    "torch.load", "torch.hub.load", "os.system", "torch", "", "torch.nn.NoSuchLayer",
]) | st.text(max_size=8)  # fmt: skip
SMALL = st.integers(-2, 6) | st.floats(-1, 2) | st.booleans() | st.none() | st.text(max_size=3)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["in_features", "out_features", "bias", "features", "p", "eps", "scaling",
                     "normalized_shape", "dim", "function", "kernel_size", "inplace", "x"]),
    SMALL | st.lists(SMALL, max_size=2), max_size=3,
)  # fmt: skip
NAMES = st.sampled_from(["a.x", "a.y", "b.x", "b", "c.x", "output.linear"])
SPECS = st.lists(st.builds(LayerSpec, NAMES, TARGETS, ARGUMENTS), max_size=3)
LAST = LayerSpec("last.linear", "torch.nn.Linear", {"out_features": 1})


@pytest.mark.slow(seconds=5)
@cases("networks")
@given(SPECS, st.booleans(), st.integers(1, 5))
@pytest.mark.filterwarnings("ignore")  # torch's own, of layers that make little sense
def test_a_list_of_layers_is_a_network_or_explained(
    specs: list[LayerSpec], closed: bool, features: int
) -> None:
    try:
        network = build([*specs, LAST] if closed else specs, features)
    except ValueError as error:
        assert str(error)
        return
    network.eval()
    assert network(torch.zeros(3, features)).shape == (3,)


NUMBERS = st.integers(-3, 30).map(str) | st.floats().map(str)
CELLS = st.text(max_size=10) | NUMBERS | st.sampled_from(
    ["1e400", "-0", "0x10", "1_0", "١", "NaT", "NA", "9999-12-31", "0001-01-01", '"', "'1'", "\x00",
     "None", "1.", ".5", "1e-1", "+1", " 1 ", "1,5", "2011-1-1", "01", "true", "½", "\ufeff1"]
)  # fmt: skip
RULES = read_section("clean", Clean, ROOT / "params.yaml")
ROWS = [line.split(",") for line in raw_hours(1).to_csv(index=False).splitlines()]


@pytest.mark.slow(seconds=7)
@cases("tables")
@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 16), CELLS), max_size=3),
    st.lists(st.integers(0, 24), max_size=2), st.lists(st.integers(0, 24), max_size=1),
    st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]),
)  # fmt: skip
def test_a_raw_table_is_read_as_it_stands_or_explained(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, str]],
    gone: list[int], again: list[int], end: str, mark: str,
) -> None:  # fmt: skip
    rows = deepcopy(ROWS)
    for row, column, text in changes:
        rows[row][column] = text
    rows += [rows[i] for i in again]
    rows = [row for i, row in enumerate(rows) if i not in gone]
    path = tmp_path_factory.getbasetemp() / "hour.csv"
    text = mark + end.join(map(",".join, rows))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        raw = read_raw(path)
        hours = clean(raw, RULES)
    except DataError as error:
        assert str(error)
        return
    compare(raw, hours, rows)


def compare(raw: pd.DataFrame, hours: pd.DataFrame, rows: list[list[str]]) -> None:
    """Every number of an accepted table is the one that Python reads in its cell."""
    names = [name.strip() for name in rows[0]]
    cells = pd.DataFrame([row for row in rows[1:] if any(map(str.strip, row))], columns=names)
    assert sorted(names) == sorted(RAW)
    assert len(raw) == len(hours) == len(cells)
    for name in RAW:
        if name != "dteday":
            assert [float(text.strip().strip('"')) for text in cells[name]] == raw[name].tolist()
    assert sorted(hours["rentals"]) == sorted(raw["cnt"])
    temperatures = sorted(-8 + 47 * raw["temp"])
    assert SCALES["temperature"] == ("temp", -8.0, 39.0)
    assert sorted(hours["temperature"]) == pytest.approx(temperatures)
    assert all(raw[name].between(0, 1).all() for name, *_ in SCALES.values())
