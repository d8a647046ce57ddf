"""Files as they are published: each is read or refused in a sentence."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from bikefit.data.cells import lines_of, parse_times, read_cells, read_frame, typed
from bikefit.errors import DataError

PLAIN = "place,temp,count\nKöln,3.5,16\nBonn,4,1\n"


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", ";").replace("3.5", "3,5"),
        PLAIN.replace(",", ", "),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.encode("latin-1"),
        gzip.compress(PLAIN.encode(), mtime=0),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r\r\n"),
        PLAIN.replace("\n", "\r"),
        '"place","temp","count"\n"Köln",3.5,16\n"Bonn",4,1\n',
        ",place,temp,count\n0,Köln,3.5,16\n1,Bonn,4,1\n",
        "place,temp,count\n1,Köln,3.5,16\n2,Bonn,4,1\n",  # of R
        "place,temp,count,\nKöln,3.5,16,\nBonn,4,1,\n",
    ],
)
def test_forms_of_a_table(tmp_path: Path, content: bytes | str) -> None:
    rows = read_frame(write(tmp_path, content))
    assert rows.to_dict("list") == {"place": ["Köln", "Bonn"], "temp": [3.5, 4], "count": [16, 1]}
    assert rows.index.tolist() == [2, 3]
    assert rows["count"].dtype == "int64"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        (b"\xff\xfe", "it is empty"),
        ('\n"",,\n', "it is empty"),
        (b"PK\x03\x04 and so on", "it is a zip archive or an Excel workbook: unpack it, or save"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "it is an Excel workbook: save the sheet as CSV"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-9], "cannot be read"),
        ("\n<!DOCTYPE html><html>", "it is a web page: download the file that it links to"),
        ("version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        ('{"rows": []}', "it is JSON: convert it to CSV"),
        (b"\x00\x01\x02", "it is no text: it has zero bytes"),
        ("a,b,a\n1,2,3\n", "the name a occurs twice in the header"),
        ("1,2\n3,4\n5,6\n", "its first line has numbers, no names: add a header"),
        ('a,b\n1,"2\n3,4\n', "the quotes of line 2 do not match"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, but the header has 2 names"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | str, reason: str) -> None:
    with pytest.raises(DataError) as error:
        read_cells(write(tmp_path, content))
    assert str(error.value).startswith(f"{tmp_path}/table.csv cannot be read as a CSV table: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_types_of_columns(tmp_path: Path) -> None:
    text = "a,b,c,d\nyes,NA,1,x\nNo,2.5,2,5\nyes,?,3,\n"
    rows = read_frame(write(tmp_path, text))
    assert rows["a"].tolist() == [True, False, True]
    assert rows["b"].isna().tolist() == [True, False, True]
    assert rows["b"][3] == 2.5
    assert rows["c"].dtype == "int64"
    assert rows["d"].tolist()[:2] == ["x", "5"]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["3,5", "4"], [3.5, 4]),
        (["0,125", "1,250"], [0.125, 1.25]),
        (["1,234", "987"], ["1,234", "987"]),  # thousands or decimals
        (["1.234,5", "2"], ["1.234,5", "2"]),
        (["01067", "53111"], ["01067", "53111"]),  # a postal code
        (["0", "0.5"], [0, 0.5]),
    ],
)
def test_what_is_a_number(cells: list[str], values: list[float | str]) -> None:
    assert typed(pd.Series(cells, dtype="str")).tolist() == values


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows = read_cells(write(tmp_path, 'a,b\n1,2\n\n3,"x\ny"\n5,6\n'))
    assert rows.index.tolist() == [2, 4, 6]
    assert lines_of(rows, rows["a"] != "3") == "lines 2, 6"
    assert lines_of(rows, rows["a"] == "3") == "line 4"


def test_a_parquet_file_is_read_under_any_name(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    rows.to_parquet(tmp_path / "table.csv")
    read = read_frame(tmp_path / "table.csv")
    assert read.to_dict("list") == rows.to_dict("list")
    assert (read.index.name, read.index.tolist()) == ("row", [1, 2])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2011-01-01", "2011-01-13"], ["2011-01-01", "2011-01-13"]),
        (["2011-01-01 05:00:00", "2011-01-02T06:30"], ["2011-01-01T05", "2011-01-02T06:30"]),
        (["2011-01-01T05:00:00Z"], ["2011-01-01T05"]),
        (["1/1/2011", "1/2/2011", "1/13/2011"], ["2011-01-01", "2011-01-02", "2011-01-13"]),
        (["1/1/2011", "13/1/2011"], ["2011-01-01", "2011-01-13"]),
        (["1/1/2011", "1/2/2011"], ["2011-01-01", "2011-01-02"]),  # the shorter range
        (["01.02.2011 13:00", "02.02.2011 14:00"], ["2011-02-01T13", "2011-02-02T14"]),
        (["20110101", "20110113"], ["2011-01-01", "2011-01-13"]),
        (["2011-01-01", "tomorrow"], ["2011-01-01", "NaT"]),
    ],
)
def test_times(texts: list[str], expected: list[str]) -> None:
    times = parse_times(pd.Series(texts))
    assert times.dtype == "datetime64[us]"
    pd.testing.assert_series_equal(times, pd.Series(expected, dtype="datetime64[us]"))
