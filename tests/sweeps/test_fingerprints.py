"""Fingerprints differ if results may differ."""

from pathlib import Path

import pytest

from bikefit.sweeps import fingerprints
from bikefit.sweeps.fingerprints import (
    code_version,
    fingerprint,
    fingerprint_prefix,
    module_version,
)
from conftest import make_settings

BASE = fingerprint(make_settings(), "v1")


@pytest.mark.parametrize(
    "overrides",
    [
        ["tracking.weights=false"],
        ["trainer.progress=false"],
        ["rerun=true"],
        ["tracking.experiment=other"],
        ["network.name=other"],
        ["network.lr=0.5", "optimizer.lr=0.01"],
        ["data.root=/other"],
    ],
)
def test_names_and_display_do_not_change_a_fingerprint(overrides: list[str]) -> None:
    assert fingerprint(make_settings(*overrides), "v1") == BASE


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "regularization.l2=1e-6",
        "regularization.layers.hidden1.l2=1e-6",
        "data.fraction=0.5",
        "loss=mse",
        "optimizer.lr=0.02",
        "validation=kfold",
        "trainer.accelerator=gpu",
        "network.lr=0.5",
    ],
)
def test_settings_that_change_a_result_change_the_fingerprint(override: str) -> None:
    assert fingerprint(make_settings(override), "v1") != BASE


def test_data_folds_and_code_change_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings()
    assert len({fingerprint(settings, "v1", fold) for fold in (None, 0, 1)}) == 3
    assert fingerprint(settings, "v2") != BASE
    assert BASE.startswith(fingerprint_prefix("v1"))
    monkeypatch.setattr(fingerprints, "code_version", lambda: "another")
    assert fingerprint(settings, "v1") != BASE


@pytest.mark.parametrize("path", ["nn/layers.py", "training/fit.py", "data/splits.py"])
def test_the_code_version_reads_all_code_that_determines_results(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes
    real = code_version()

    def changed(file: Path) -> bytes:
        return read(file) + (b"#" if file.as_posix().endswith(path) else b"")

    assert code_version.__wrapped__() == real
    monkeypatch.setattr(Path, "read_bytes", changed)
    assert code_version.__wrapped__() != real


def test_a_changed_module_of_layers_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    settings = make_settings("network=custom", "network.allow=[changing_waves]")
    values = []
    for factor in (2, 2, 3):
        (tmp_path / "changing_waves.py").write_text(f"def wave(x):\n    return {factor} * x\n")
        module_version.cache_clear()
        values.append(fingerprint(settings, "v1"))
    assert values[0] == values[1] != values[2]
