"""Configs run no other code, addresses show no password, servers listen on this machine only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import stores
from bikefit.config import ConfigError
from bikefit.errors import hide_secrets
from bikefit.nn.networks import build
from bikefit.nn.specs import LayerSpec
from bikefit.sweeps.command import check_packages
from bikefit.tracking import connection, writing
from conftest import ROOT, make_settings

ATTACKS = """
    os.system builtins.eval subprocess.run pickle.loads bikefit.train.main torch
    torch.load torch.save torch.compile torch.from_file torch.import_ir_module torch.hub.load
    torch.jit.load torch.package.PackageImporter torch.serialization.pickle.loads
    torch.os.system torch.builtins.eval torch.importlib.import_module torch.testing.os.system
    torch.utils.cpp_extension.load torch.distributed.rpc.init_rpc torch.nn.functional.torch.load
    torch.nn.functional.warnings.warn torch.nn.modules.module.functools.partial
    torch.nn.Parameter torch.Tensor torch._import_dotted_name torch.__import__
    torch.nn.__builtins__ torch.sin.__call__ torch.nn.functional.silu_.__globals__
    bikefit.nn.networks.importlib.import_module bikefit.nn.layers.torch.load
    bikefit.data.files.shutil.rmtree torch..load .torch.sin
"""


@pytest.mark.parametrize("target", ["", "torch.sin\nos", *ATTACKS.split()])
def test_a_layer_is_a_module_of_torch_or_a_function_of_tensors(target: str) -> None:
    message = r"(?s)^layer 'a.x': .*(not allowed|neither a torch|cannot be called|does not exist)"
    with pytest.raises(ValueError, match=message):
        build([LayerSpec("a.x", target)], 2)


def test_a_user_allows_a_package_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waves.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert build([LayerSpec("a.x", "waves.double", allow=("waves",))], 1)
    for target in ("os.system", "waves2.double", "torch.load"):
        with pytest.raises(ValueError, match="not allowed"):
            build([LayerSpec("a.x", target, allow=("waves",))], 1)
    with pytest.raises(ValueError, match=r"network.allow=\[…\] on the command line"):
        build([LayerSpec("a.x", "waves.double")], 1)


def test_only_the_command_line_allows_a_package() -> None:
    settings = make_settings("network=custom", "network.allow=[waves]")
    with pytest.raises(ConfigError, match=r"write network.allow=\[waves\] on the command line"):
        check_packages(settings, ["network=custom"])
    check_packages(settings, ["network.allow=[waves]"])


def test_servers_listen_on_this_machine_only() -> None:
    command = (ROOT / "src/bikefit/ui.py").read_text()
    assert 'HOST = "127.0.0.1"' in command
    assert '"mlflow", "ui", "--host", HOST' in command
    assert "mlflow ui" not in (ROOT / "Makefile").read_text()  # it calls bikefit.ui
    for file in (ROOT / "src").rglob("*.py"):
        assert "0.0.0.0" not in file.read_text()


@pytest.mark.parametrize("name", ["pytorch-lightning", "lightning"])
def test_malicious_versions_are_excluded(name: str) -> None:
    text = (ROOT / "constraints.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    lines = [line.split("#")[0].strip(' ",') for line in text.splitlines()]
    pins = [Requirement(line) for line in lines if re.match(f"{name}[=!<>~]", line)]
    assert pins
    for version in ("2.6.2", "2.6.3"):
        assert all(not pin.specifier.contains(version) for pin in pins)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@db:5432/runs", "postgresql://…@db:5432/runs"),
        ("no: https://me:p@ss@host/x?a=1, sorry", "no: https://…@host/x?a=1, sorry"),
        ("https://token@host", "https://…@host"),
        ("mysql://me:sec/ret@host/runs", "mysql://…@host/runs"),
        ("https://host:5000/@me", "https://host:5000/@me"),
        ("https://host/x?api_key=abc&b=2", "https://host/x?api_key=…&b=2"),
        ("https://host/@me?b=2", "https://host/@me?b=2"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
    ],
)
def test_passwords_in_addresses_are_masked(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


def test_no_secret_reaches_the_store(workplace: Path) -> None:
    address = "http://me:secret@host/x"
    sweep = writing.start_sweep("full", "s", [f"tracking.experiment={address}"])
    layer = {"name": "a.x", "_target_": "torch.sin", "source": address}
    settings = stores.settings(network={"name": "custom", "layers": [layer]})
    run = writing.start_job(settings, sweep, "v1")
    read = connection.client().get_run
    assert read(sweep).data.tags["overrides"] == "tracking.experiment=http://…@host/x"
    assert read(run).data.params["network.layers.a.x.source"] == "http://…@host/x"
