"""Data chooses nothing that runs: names in configs, formats of files, addresses, ports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import stores
from bikefit.config import ConfigError
from bikefit.errors import hide_secrets
from bikefit.nn.networks import build
from bikefit.nn.specs import LayerSpec
from bikefit.sweeps.command import check_allowed
from bikefit.tracking import connection, writing
from conftest import ROOT, make_settings

ATTACKS = [
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.run",
    "pickle.loads",
    "torch.load",
    "torch.save",
    "torch.compile",
    "torch.from_file",
    "torch.import_ir_module",
    "torch.os.system",
    "torch.sys.exit",
    "torch.builtins.eval",
    "torch.importlib.import_module",
    "torch.hub.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.serialization.load",
    "torch.serialization.pickle.loads",
    "torch.utils.cpp_extension.load",
    "torch.utils.cpp_extension.subprocess.run",
    "torch.nn.functional.torch.load",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.functional.warnings.warn",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.Parameter",
    "torch.Tensor",
    "torch.storage.pickle.loads",
    "torch._import_dotted_name",
    "torch.__import__",
    "torch.nn.__builtins__",
    "torch.distributed.rpc.init_rpc",
    "torch.testing.os.system",
    "bikefit.nn.networks.importlib.import_module",
    "bikefit.nn.layers.torch.load",
    "bikefit.data.files.shutil.rmtree",
    "bikefit.train.main",
    "torch.sin.__call__",
    "torch..load",
    ".torch.sin",
    "torch",
    "",
    "torch.sin\nos",
    "torch.nn.functional.silu_.__globals__",
]


@pytest.mark.parametrize("target", ATTACKS)
def test_a_layer_is_a_module_of_torch_or_a_function_of_tensors(target: str) -> None:
    message = r"(?s)^layer 'a.x': .*(not allowed|neither a torch|cannot be called|does not exist)"
    with pytest.raises(ValueError, match=message):
        build([LayerSpec("a.x", target)], 2)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody's package with a layer in it."""
    (tmp_path / "waves.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "waves", raising=False)
    return "waves"


def test_a_user_opens_a_package_and_no_other(package: str) -> None:
    assert build([LayerSpec("a.x", "waves.double", allow=(package,))], 1)
    for target in ("os.system", "waves2.double", "torch.load"):
        with pytest.raises(ValueError, match="not allowed"):
            build([LayerSpec("a.x", target, allow=(package,))], 1)
    with pytest.raises(ValueError, match=r"network.allow=\[…\] on the command line"):
        build([LayerSpec("a.x", "waves.double")], 1)


def test_only_the_command_line_allows_a_package() -> None:
    settings = make_settings("network=custom", "network.allow=[waves]")
    with pytest.raises(ConfigError, match=r"write network.allow=\[waves\] on the command line"):
        check_allowed(settings, ["network=custom"])
    check_allowed(settings, ["network.allow=[waves]"])


RUNS_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
# The first two only as plain calls: `network.eval()` is another thing.
LOADERS = (
    "eval",
    "exec",
    "yaml.load",
    "joblib.load",
    "read_pickle",
    "full_load",
    "unsafe_load",
    "load_model",
    "load_from_checkpoint",
    "instantiate",
    "extractall",
    "unpack_archive",
)


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")), ids=lambda f: f.stem)
def test_nothing_is_read_by_a_format_that_can_run_code(file: Path) -> None:
    tree = ast.parse(file.read_text())
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert not modules & RUNS_CODE
    for call in _calls(tree):
        name = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in LOADERS and name.split(".")[-1] not in LOADERS[2:], f"{file}: {name}"
        assert name != "torch.load" or given.get("weights_only") == "True", f"{file}: {name}"
        # A model is saved as the path of its code; an object would be pickled.
        assert not name.endswith(("log_model", "pyfunc.save_model")) or given[
            "python_model"
        ].endswith(".py')"), file
        for key in ("allow_pickle", "shell"):
            assert given.get(key, "False") == "False", f"{file}: {name}"


def test_servers_listen_on_this_machine_alone() -> None:
    door = (ROOT / "src/bikefit/ui.py").read_text()
    assert 'HOST = "127.0.0.1"' in door
    assert '"mlflow", "ui", "--host", HOST' in door
    assert "mlflow ui" not in (ROOT / "Makefile").read_text()  # which opens it by that door
    for file in (ROOT / "src").rglob("*.py"):
        assert "0.0.0.0" not in file.read_text()


@pytest.mark.parametrize("name", ["pytorch-lightning", "lightning"])
def test_malicious_versions_are_excluded(name: str) -> None:
    from packaging.requirements import Requirement

    text = (ROOT / "constraints.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    found = [
        Requirement(line.strip().split("#")[0].strip().strip('",').rstrip('",'))
        for line in text.splitlines()
        if line.strip().strip('"').split("=")[0].split("!")[0] == name
    ]
    assert found
    for version in ("2.6.2", "2.6.3"):
        assert all(not requirement.specifier.contains(version) for requirement in found)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@db:5432/runs", "postgresql://…@db:5432/runs"),
        (
            "no route: https://me:p@ss@host/x?a=1, sorry",
            "no route: https://…@host/x?a=1, sorry",
        ),
        ("https://token@host", "https://…@host"),
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
    one = stores.settings(network={"name": "custom", "layers": [layer]})
    run = writing.start_job(one, sweep, "v1")
    tags = connection.client().get_run(sweep).data.tags
    assert tags["overrides"] == "tracking.experiment=http://…@host/x"
    assert (
        connection.client().get_run(run).data.params["network.layers.a.x.source"]
        == "http://…@host/x"
    )
