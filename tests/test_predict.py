"""The command `python -m bikefit.predict`."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import bikefit
from bikefit.final.model import load
from bikefit.final.predict import MODEL, main
from bikefit.tracking import connection, registry

pytestmark = pytest.mark.slow  # the fixture runs a sweep and a refit

ROW = {"at": "2011-02-05T17:00", "temp": "7", "humidity": "60"}
ROW |= {"windspeed": "12", "weather": "clear"}
ARGUMENTS = [word for name, value in ROW.items() for word in (f"--{name}", value)]
TABLE = """at,temp,humidity,windspeed,weather,note
2011-02-05T17:00,7,60,12,clear,first

2011-02-05T18:00,7,60,12,sunny,second
2011-02-05T19:00,77,0,12,mist,third
2011-02-06T08:00,5.5,70,0,mist,fourth
"""


def test_the_prediction_of_a_row_is_a_sentence(
    refitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ARGUMENTS) == 0
    answer = load(registry.model_folder(MODEL)).predict(pd.DataFrame([ROW])).iloc[0]
    assert bikefit.predict(ROW).iloc[0].equals(answer)
    assert capsys.readouterr().out == (
        f"2011-02-05T17:00: {answer['expected']:.1f} rentals expected, from {answer['low']:.0f} to "
        f"{answer['high']:.0f} in 9 of 10 such hours\n"
    )
    assert 0 <= answer["low"] < answer["expected"] < answer["high"]


def test_a_local_store_is_read_without_mlflow(
    refitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from bikefit.final.predict import main\n"
        "from bikefit.final import model\n"
        "print({'sklearn', 'scipy.stats', 'lightgbm'} & set(sys.modules))\n"
        "main(sys.argv[1:])\n"  # boosted trees in the average import what they need
        "print({'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *ARGUMENTS], capture_output=True, text=True, check=True
    )
    assert main(ARGUMENTS) == 0
    assert done.stdout == f"set()\n{capsys.readouterr().out}set()\n"


@pytest.mark.parametrize("uri", ["models:/bikefit@champion", "models:/bikefit/1"])
def test_the_folder_of_a_model_is_remembered(refitted: Path, uri: str) -> None:
    code = f"from bikefit.tracking.local_models import find_folder; print(find_folder({uri!r}))"
    command = [sys.executable, "-c", code]

    def found() -> str:
        return subprocess.check_output(command, text=True).strip()

    connection.client().set_tag(connection.client().search_runs(["1"])[0].info.run_id, "a", "b")
    assert found() == "None"  # the database has changed
    folder = registry.model_folder(uri)
    assert (folder / "model.json").is_file()
    assert Path(found()).resolve() == folder.resolve()


def test_each_row_of_a_table_has_a_prediction_or_an_error(
    refitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, answers = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text(TABLE)
    assert main(["--input", str(rows)]) == 1  # two rows are wrong
    shown = capsys.readouterr()
    table = pd.read_csv(io.StringIO(shown.out))
    assert list(table) == [*ROW, "note", "expected", "low", "high", "error"]
    assert table["expected"].notna().tolist() == [True, False, False, True]
    assert table["error"].isna().tolist() == [True, False, False, True]
    assert "line 4: weather = sunny: must be one of" in shown.err
    assert "line 5: temp = 77: must be a number from -8 to 39 °C; humidity = 0" in shown.err
    assert "ignored: column note" in shown.err
    assert main(["--input", str(rows), "--output", "."]) == 1
    assert "error: . cannot be written: Is a directory" in capsys.readouterr().err
    lines = TABLE.splitlines(keepends=True)
    rows.write_text("".join([lines[0], lines[1], lines[5]]))
    assert main(["--input", str(rows), "--output", str(answers)]) == 0
    assert pd.read_csv(answers)["expected"].gt(0).tolist() == [True, True]


def test_options_change_the_prediction(refitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = set()
    for more in ([], ["--holiday", "yes"], ["--feels-like", "-10"]):
        assert main([*ARGUMENTS, *more]) == 0
        answers.add(capsys.readouterr().out)
    assert len(answers) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*ARGUMENTS[:-1], "sunny"], "weather = sunny: must be one of clear, mist"),
        (ARGUMENTS[:-2], "weather: missing, must be one of clear, mist"),
        *[
            ([*ARGUMENTS, "--model", uri], f"no model {uri} in sqlite:///")
            for uri in ("models:/nobody@champion", "models:/bikefit/99", "models:/a", "b")
        ],
        (["--input", "no.csv"], "No such file"),
        (["--input", "empty.csv"], "empty.csv cannot be read as a CSV table: it is empty"),
    ],
)
def test_invalid_input_ends_with_an_error(
    refitted: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("empty.csv").write_text("")
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert message in shown.err and not shown.out


@pytest.mark.parametrize(
    "arguments", [[], [*ARGUMENTS, "--input", "x.csv"], [*ARGUMENTS, "--output", "x"]]
)
def test_input_and_at_exclude_each_other(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
