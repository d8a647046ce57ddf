"""The stage `python -m bikefit.data.clean`: one checked row per hour, in physical units.

Reads `data/raw/hour.csv`; writes `data/clean/hours.parquet` and `reports/data_quality.json`.
"""

from pathlib import Path

import pandas as pd

from bikefit.data.columns import CLEAN, RAW, SCALES, SEASONS, WEATHER, complete_rows, read_cells
from bikefit.data.faults import Clean, flag_and_repair, quality
from bikefit.data.files import atomic_write, write_json
from bikefit.data.params import read_section, run_stage
from bikefit.data.schema import CLEAN_SCHEMA, check_raw
from bikefit.errors import DataError

RAW_FILE = Path("data/raw/hour.csv")
CLEAN_FILE = Path("data/clean/hours.parquet")
QUALITY_FILE = Path("reports/data_quality.json")


def read_raw(path: Path) -> pd.DataFrame:
    """Read a table with the columns of the published one; the index is the line in the file.

    A byte-order mark, the kind of line ends, blank lines, blanks around values and the order of
    columns do not matter.

    Raises:
        DataError: The file is not such a table, or values are wrong (see
            :func:`bikefit.data.schema.check_raw`).
    """
    return parse_raw(read_cells(path), str(path))


def parse_raw(text: pd.DataFrame, source: str = "raw table") -> pd.DataFrame:
    """Convert the cells of a raw table to dates, float64 and int64, and check the values."""
    missing = [name for name in RAW if name not in text]
    unknown = [str(name) for name in text if name not in RAW]
    if missing or unknown:
        raise DataError(
            f"{source}: wrong columns (missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}); expected: {', '.join(RAW)}"
        )
    if text.empty:
        raise DataError(f"{source}: no rows below the header")
    text = text[list(RAW)]
    raw = text.drop(columns="dteday").apply(pd.to_numeric, errors="coerce")
    dates = pd.to_datetime(text["dteday"], format="%Y-%m-%d", errors="coerce")
    raw.insert(1, "dteday", dates.astype("datetime64[us]"))
    check_raw(raw, text, source)
    scales = [column for column, *_ in SCALES.values()]
    whole = raw.columns.difference(["dteday", *scales])
    return raw.astype(dict.fromkeys(whole, "int64") | dict.fromkeys(scales, "float64"))


def decode(raw: pd.DataFrame, calm: float) -> pd.DataFrame:
    """Convert a raw table to clean rows in time order; the wind is calm up to `calm` (km/h)."""
    scaled = {
        name: low + raw[column] * (high - low) for name, (column, low, high) in SCALES.items()
    }
    hours = pd.DataFrame(
        {
            "timestamp": raw["dteday"] + pd.to_timedelta(raw["hr"], unit="h").astype("m8[us]"),
            "season": raw["season"].map(SEASONS),
            "holiday": raw["holiday"] == 1,
            "weather": raw["weathersit"].map(WEATHER),
            **scaled,
            "casual": raw["casual"],
            "registered": raw["registered"],
            "rentals": raw["cnt"],
        }
    )
    hours = complete_rows(hours, calm)[list(CLEAN)]
    return hours.sort_values("timestamp", kind="stable", ignore_index=True)


def clean(raw: pd.DataFrame, params: Clean) -> pd.DataFrame:
    """Convert a raw table to clean rows, and flag or repair known faults.

    Raises:
        DataError: A column has faulty values only.
    """
    hours = decode(raw, params.windspeed.calm)
    return CLEAN_SCHEMA.validate(flag_and_repair(hours, params))


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("clean", Clean)
    hours = clean(read_raw(RAW_FILE), params)
    report = quality(hours, params)
    with atomic_write(CLEAN_FILE) as temporary:
        hours.to_parquet(temporary, index=False, compression="zstd")
    write_json(QUALITY_FILE, report)
    print(f"clean: {len(hours):,} hours → {CLEAN_FILE}, {QUALITY_FILE}")
    for fault in (report["absent_hours"], *report["faults"].values()):
        print(f"  {fault['sentence']}")


if __name__ == "__main__":
    run_stage(main)
