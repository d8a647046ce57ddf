from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from bikefit.comparison.ranking import rank
from bikefit.comparison.tables import print_ranking
from made_runs import make_run, make_sweep, make_table


def printed(ranking: pd.DataFrame, width: int = 80, top: int = 25, colour: bool = False) -> str:
    """What a terminal of that width shows."""
    file = io.StringIO()
    print_ranking(ranking, top, Console(file=file, width=width, force_terminal=colour))
    return file.getvalue()


def test_who_won_comes_first_and_lines_fit() -> None:
    lines = printed(rank(make_sweep())).splitlines()
    assert lines[0].startswith("l2 λ=0.0001 + dropout p=0.2 · mlp 256×256 has the lowest")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_rows_hold_the_numbers() -> None:
    lines = printed(rank(make_sweep()), width=120).splitlines()
    head = next(i for i, line in enumerate(lines) if "configuration" in line and "gap" in line)
    assert lines[head].split() == [
        "#",
        "configuration",
        "seeds",
        "train",
        "validation",
        "gap",
        "RMSE",
    ]
    assert lines[head + 1].split()[-7:] == ["3", "4.119", "6.832", "±", "0.057", "2.713", "68.3"]
    marked = [line.split()[0] for line in lines[head + 1 : head + 27]]
    assert marked[:4] == ["1", "≈2", "≈3", "4"]


def test_only_the_best_are_shown() -> None:
    text = printed(rank(make_sweep()), width=120, top=3)
    assert "the best 3 of 26 configurations" in " ".join(text.split())
    assert "linear" not in text


def test_the_winner_stands_out_in_colour() -> None:
    assert "\x1b[1;32m" in printed(rank(make_sweep()), width=120, colour=True)


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_ranking(rank(make_sweep()))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "has the lowest" in out


def test_brackets_are_no_markup() -> None:
    runs = [make_run(seed=s, **{"optimizer.name": f"[red]{s}"}) for s in range(2)]
    assert "optimizer.name=[red]1" in printed(rank(make_table(runs)), width=150)


def test_nothing_finished() -> None:
    text = printed(rank(make_table([make_run(failure="x")])))
    assert text.startswith("No run finished (of 1).")
    assert "configuration" not in text
    assert printed(rank(make_table([]))) == "The sweep has no runs.\n"
