from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bikefit.comparison.ranking import rank
from bikefit.comparison.tables import print_ranking

Run = Callable[..., dict[str, Any]]


def printed(ranking: pd.DataFrame, width: int = 80, top: int = 25, colour: bool = False) -> str:
    """What a terminal of that width shows."""
    file = io.StringIO()
    print_ranking(ranking, top, Console(file=file, width=width, force_terminal=colour))
    return file.getvalue()


def test_who_won_comes_first_and_lines_fit(sweep: pd.DataFrame) -> None:
    lines = printed(rank(sweep)).splitlines()
    assert lines[0].startswith("l2 λ=0.0001 + dropout p=0.2 · mlp 256×256 has the lowest")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_rows_hold_the_numbers(sweep: pd.DataFrame) -> None:
    lines = printed(rank(sweep), width=120).splitlines()
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


def test_only_the_best_are_shown(sweep: pd.DataFrame) -> None:
    text = printed(rank(sweep), width=120, top=3)
    assert "the best 3 of 26 configurations" in " ".join(text.split())
    assert "linear" not in text


def test_the_winner_stands_out_in_colour(sweep: pd.DataFrame) -> None:
    assert "\x1b[1;32m" in printed(rank(sweep), width=120, colour=True)


def test_a_pipe_gets_plain_text(sweep: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    print_ranking(rank(sweep))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "has the lowest" in out


def test_brackets_are_no_markup(run: Run) -> None:
    runs = [run(seed=s, **{"optimizer.name": f"[red]{s}"}) for s in range(2)]
    assert "optimizer.name=[red]1" in printed(rank(pd.DataFrame(runs)), width=150)


def test_nothing_finished(run: Run) -> None:
    text = printed(rank(pd.DataFrame([run(failure="x")])))
    assert text.startswith("No run finished (of 1).")
    assert "configuration" not in text
    assert printed(rank(pd.DataFrame())) == "The sweep has no runs.\n"


def test_one_seed_has_no_spread(run: Run) -> None:
    text = printed(rank(pd.DataFrame([run(), run("l2 λ=1", val=9.0)])))
    assert "±" not in text
    assert "9.000" in text
