"""Equal fingerprints promise equal results."""

import pytest

from bikefit.sweeps.fingerprints import code_version, family, fingerprint
from conftest import make_settings

BASE = fingerprint(make_settings(), "v1")


@pytest.mark.parametrize(
    "overrides",
    [
        ["tracking.weights=false"], ["trainer.progress=false"], ["rerun=true"],
        ["tracking.experiment=elsewhere"], ["network.name=other"],
        ["network.lr=0.5", "optimizer.lr=0.01"], ["data.root=/elsewhere"],
    ],
)  # fmt: skip
def test_names_and_display_do_not_count(overrides: list[str]) -> None:
    assert fingerprint(make_settings(*overrides), "v1") == BASE


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"], ["regularization.l2=1e-6"], ["regularization.layers.hidden1.l2=1e-6"],
        ["data.fraction=0.5"], ["loss=mse"], ["optimizer.lr=0.02"], ["validation=kfold"],
        ["trainer.accelerator=gpu"], ["network.lr=0.5"],
    ],
)  # fmt: skip
def test_what_changes_a_result_counts(overrides: list[str]) -> None:
    assert fingerprint(make_settings(*overrides), "v1") != BASE


def test_data_folds_and_code_count(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings()
    assert len({fingerprint(settings, "v1", fold) for fold in (None, 0, 1)}) == 3
    assert fingerprint(settings, "v2") != BASE
    assert BASE.startswith(family("v1"))
    monkeypatch.setattr("bikefit.sweeps.fingerprints.code_version", lambda: "another")
    assert fingerprint(settings, "v1") != BASE
    assert len(code_version()) == 64
