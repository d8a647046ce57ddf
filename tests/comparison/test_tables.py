from __future__ import annotations

import io

import pandas as pd
from rich.console import Console

from bikefit.comparison.tables import print_ranking
from made_runs import make_ranking, make_run, make_sweep, make_table


def printed(ranking: pd.DataFrame, width: int = 120, top: int = 25, colour: bool = False) -> str:
    """Return what a terminal of that width shows."""
    file = io.StringIO()
    print_ranking(ranking, top, Console(file=file, width=width, force_terminal=colour))
    return file.getvalue()


def test_the_winner_comes_first_and_lines_fit() -> None:
    lines = printed(make_ranking(make_sweep()), width=80).splitlines()
    assert lines[0].startswith("l2 λ=0.0001 + dropout p=0.2 · mlp 256×256 has the lowest")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_rows_hold_the_numbers_of_the_best() -> None:
    text = printed(make_ranking(make_sweep()), top=4)
    lines = text.splitlines()
    (head,) = (i for i, line in enumerate(lines) if line.strip().startswith("#"))
    assert lines[head].split()[:3] == ["#", "configuration", "seeds"]
    assert lines[head + 1].split()[-9:-2] == ["3", "4.119", "6.832", "±", "0.057", "2.713", "68.3"]
    assert [line.split()[0] for line in lines[head + 1 : head + 5]] == ["1", "≈2", "≈3", "4"]
    assert "the best 4 of 26 configurations" in " ".join(text.split())
    assert "linear" not in text


def test_the_winner_stands_out_in_colour() -> None:
    assert "\x1b[1;32m" in printed(make_ranking(make_sweep()), colour=True)


def test_brackets_are_no_markup() -> None:
    runs = [make_run(seed=s, **{"optimizer.name": f"[red]{s}"}) for s in range(2)]
    assert "optimizer.name=[red]1" in printed(make_ranking(make_table(runs)), width=150)


def test_without_a_result_there_is_no_table() -> None:
    text = printed(make_ranking(make_table([make_run(failure="x")])))
    assert text.startswith("No run finished (of 1).")
    assert "configuration" not in text
    assert printed(make_ranking(make_table([]))) == "The sweep has no runs.\n"
