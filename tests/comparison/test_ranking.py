from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bikefit.comparison.ranking import (
    highlighted_runs,
    least_flexible,
    rank,
    telling_configurations,
    typical_rows,
    views_of_runs,
    winner,
)
from bikefit.comparison.runs import loss_unit
from bikefit.comparison.sentences import (
    choice_sentence,
    failure_sentence,
    noise_sentence,
    number,
    rows_sentence,
    winner_sentence,
)
from bikefit.comparison.tables import ranking_note
from made_runs import make_ranking, make_run, make_sweep, make_table


def seeds(losses: dict[str, list[float]], **more: Any) -> list[dict[str, Any]]:
    """Return a run for each method and seed with the given validation loss."""
    return [
        make_run(m, seed=s, val=v, **more) for m, of in losses.items() for s, v in enumerate(of)
    ]


def ranked(*runs: dict[str, Any]) -> pd.DataFrame:
    return make_ranking(make_table(runs))


# None leads by -1, -0.5 and -1.
TWO_METHODS = {"none": [7.0, 8.0, 9.0], "l2 λ=0.1": [6.0, 7.5, 8.0]}


def test_a_run_has_a_row_with_settings_and_losses() -> None:
    run = make_run("l2 λ=0.1", "[64,32]", seed=3, train=4.0, val=6.5, **{"regularization.l2": 0.1})
    row = make_table([run]).iloc[0]
    expected: dict[str, Any] = {"run_id": "l2 λ=0.1-[64,32]-3", "table": "full", "seed": 3}
    expected |= {"configuration": "l2 λ=0.1 · mlp 64×32", "network": "mlp 64×32"}
    expected |= {"regularization": "l2 λ=0.1", "kind": "l2", "regularization.l2": 0.1}
    expected |= {"train_loss": 4.0, "val_loss": 6.5, "gap": 2.5, "best_epoch": 40.0}
    expected |= {"val_rmse": 65.0, "val_deviance": 13.0}
    assert row[list(expected)].to_dict() == expected


def test_a_failed_run_keeps_its_row_without_losses() -> None:
    found = make_table([make_run(), make_run(seed=1, failure="loss is not finite")])
    assert found["status"].tolist() == ["FINISHED", "FAILED"]
    assert math.isnan(found["val_loss"][1])
    assert found["failure"][1] == "loss is not finite"


def test_configurations_differ_in_any_swept_setting() -> None:
    runs = make_table([make_run(val=6 + r, **{"optimizer.lr": r}) for r in (0.01, 0.001)])
    table = runs
    assert table["optimizer.lr"].tolist() == [0.01, 0.001]
    names = [f"none · mlp 256×256 · optimizer.lr={rate}" for rate in (0.01, 0.001)]
    assert table["configuration"].tolist() == names
    assert len(rank(runs)) == 2


def test_means_spreads_and_leads_by_hand() -> None:
    first, second = ranked(*seeds(TWO_METHODS, train=4.0)).to_dict("records")
    assert (first["regularization"], second["regularization"]) == ("l2 λ=0.1", "none")
    assert first["val_loss"] == pytest.approx(21.5 / 3)
    assert second["val_loss"] == pytest.approx(8.0)
    assert second["val_loss_std"] == pytest.approx(1.0)
    assert second["val_loss_se"] == pytest.approx(1 / math.sqrt(3))
    assert second["gap"] == pytest.approx(4.0)
    assert second["difference"] == pytest.approx(2.5 / 3)
    # Relative variances are 1/8² and (13/12)/(21.5/3)²; each is averaged with their median,
    # divided by log 2, the median of χ² over its 2 degrees of freedom.
    none, l2 = 1 / 64, 13 / 12 / (21.5 / 3) ** 2
    typical = (none + l2) / 2 / math.log(2)
    of_none, of_l2 = (none + typical) / 2 * 64 / 3, (l2 + typical) / 2 * (21.5 / 3) ** 2 / 3
    assert second["difference_se"] == pytest.approx(math.sqrt(of_none + of_l2))
    assert second["within_noise"] is True
    assert first["difference"] == 0.0
    assert pd.isna(first["within_noise"])


# Variance 2e-6 of the squared loss, averaged with itself over 0.455, the median of χ² with 1 degree
# of freedom, half of it for a mean over two seeds, twice for a difference of 10 and of 10.08: an
# error of 0.0180. Both variances have 2 degrees of freedom: Student's t is 4.303.


def test_one_seed_leaves_the_noise_unknown() -> None:
    ranking = ranked(*seeds({"none": [7.0], "l2 λ=0.1": [6.0]}))
    assert ranking["within_noise"].isna().all()
    assert ranking["val_loss_std"].isna().all()
    assert ranking["difference"].tolist() == [0.0, 1.0]
    assert "the noise is unknown" in noise_sentence(ranking)
    assert "6.000 (half Poisson deviance, bikes/hour; one seed)" in winner_sentence(ranking)


def test_failed_runs_are_counted_and_come_last() -> None:
    failed = [make_run(seed=1, failure="x"), make_run("l1 λ=9", seed=0, failure="y")]
    ranking = ranked(make_run(), *failed)
    assert ranking["regularization"].tolist() == ["none", "l1 λ=9"]
    assert ranking["failed"].tolist() == [1, 1]
    assert ranking["seeds"].tolist() == [1, 0]
    assert failure_sentence(ranking) == (
        "2 of 3 runs failed or did not finish: "
        "none · mlp 256×256 (1 of 2), l1 λ=9 · mlp 256×256 (1 of 1)."
    )


def test_sentences_on_sweeps_without_results() -> None:
    failed = ranked(*(make_run(seed=s, failure="x") for s in range(3)))
    assert winner(failed) is None
    assert winner_sentence(failed) == "No run finished (of 3)."
    assert ranking_note(failed).startswith("**No run finished (of 3).**\n\n3 of 3 runs failed")
    assert choice_sentence(failed) == "Nothing can be chosen: no run finished."
    one = ranked(make_run())
    assert noise_sentence(one) == ""
    assert "none · mlp 256×256 has the lowest validation loss: 7.000" in ranking_note(one)
    none = ranked()
    assert none.empty
    assert {"val_loss", "difference", "within_noise"} <= set(none)
    assert ranking_note(none) == "**The sweep has no runs.**"


def test_cross_validation_takes_its_noise_from_the_folds() -> None:
    runs = seeds({"none": [8.0], "l2 λ=0.1": [7.5]}, **{"validation.folds": 4})
    for run, error in zip(runs, (0.3, 0.4), strict=True):
        run["best/val/loss/standard_error"] = error
    ranking = ranked(*runs)
    assert ranking["val_loss_se"].tolist() == [0.4, 0.3]
    assert ranking["val_loss_std"].tolist() == [0.8, 0.6]
    # with one seed each, the variance between seeds is unknown
    assert math.isnan(ranking["difference_se"][1])
    assert "over 4 folds" in winner_sentence(ranking)
    assert make_table(runs)["val_loss_se"].tolist() == [0.3, 0.4]


def test_training_sets_are_repetitions_of_one_configuration() -> None:
    sets = {"validation.name": "resample", "validation.sets": 20}
    runs = seeds({"none": [8.0], "l2 λ=0.1": [7.5]}, **sets)
    for run in runs:
        run["best/val/loss/standard_error"] = 0.1
    ranking = ranked(*runs, make_run(val=6.0))
    assert ranking["val_loss_std"].tolist()[1:] == [pytest.approx(0.1 * 20**0.5)] * 2
    assert ranking["validation_rows"].nunique() == 2  # a network on all rows is not compared
    assert "over 20 training sets" in winner_sentence(ranking.iloc[1:])


def test_different_losses_are_ranked_by_deviance() -> None:
    other = make_run(val=0.1, loss="mse", **{"best/val/deviance": 15.0})
    ranking = ranked(make_run(val=7.0, **{"best/val/deviance": 14.0}), other)
    names = [f"none · mlp 256×256 · loss={loss}" for loss in ("poisson", "mse")]
    assert ranking["configuration"].tolist() == names
    assert loss_unit(ranking) == "Poisson deviance, bikes/hour"
    assert "lowest validation deviance: 14.00" in winner_sentence(ranking)


def test_the_note_names_the_winner_the_noise_and_the_table() -> None:
    runs = seeds(TWO_METHODS, train=4.0)
    note = ranking_note(ranked(*runs))
    assert note.startswith(
        "**l2 λ=0.1 · mlp 256×256 has the lowest validation loss: 7.167 ± 1.041 "
        "(half Poisson deviance, bikes/hour; ± standard deviation over 3 seeds), "
        "RMSE 71.7 bikes/hour.**"
    )
    noise = "95 % confidence): 1, namely none · mlp 256×256."
    assert noise in note
    assert "| ≈2 | none · mlp 256×256 | 3 | 4.000 | 8.000 ± 1.000 | 4.000 | 80.0 |" in note


def test_configurations_within_noise_are_named() -> None:
    ranking = rank(make_sweep())
    assert len(ranking) == 26
    assert "Not significantly worse" in noise_sentence(ranking)
    assert "2, namely dropout p=0.2 · mlp 256×256" in noise_sentence(ranking)


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (17.934, 17.9, "17.93"),
        (0.2131, 17.9, "0.21"),
        (0.0513, 0.0513, "0.05130"),
        (1234.4, 1234.4, "1234"),
        (math.nan, 1.0, "–"),
        (1.0, 0.0, "1.000"),
    ],
)
def test_numbers_have_the_decimals_of_the_reference_value(
    value: float, like: float, text: str
) -> None:
    assert number(value, like) == text


def test_the_one_standard_error_rule_chooses_the_least_flexible_configuration() -> None:
    runs = [
        make_run(method, seed=seed, train=train, val=val + shift)
        for method, train, val in (("none", 1.0, 5.0), ("l2 λ=1", 3.0, 5.5), ("l1 λ=1", 4.0, 6.5))
        for seed, shift in enumerate([-1.0, 0.0, 1.0])
    ]
    ranking = ranked(*runs)
    # standard error of the best: 1 / √3 = 0.577, so 5.5 is close enough and 6.5 is not
    chosen = least_flexible(ranking)
    assert chosen is not None
    assert chosen["configuration"] == "l2 λ=1 · mlp 256×256"
    assert choice_sentence(ranking) == (
        "The one-standard-error rule chooses l2 λ=1 · mlp 256×256, with 5.500: "
        "the least flexible within 0.577 of the best."
    )
    # without a standard error, the best
    alone = ranked(make_run("none", val=5.0), make_run("l2 λ=1", val=5.1, train=6.0))
    assert choice_sentence(alone).endswith("the rule chooses none · mlp 256×256, the best.")


def test_typical_rows_contain_the_winners_network_without_regularization() -> None:
    """Not a shorter training of it, though that is the better one without regularization."""
    runs = seeds({"l2 λ=0.1": [3.0], "none": [4.6], "l1 λ=1": [4.0]})
    runs += [make_run(val=v, **{"training.epochs": e}) for e, v in ((8, 3.3), (60, 5.8))]
    ranking = rank(make_table(runs).assign(run_id=list("abcde"))).assign(verdict="undecided")
    methods = ("l2 λ=0.1", "none", "l1 λ=1", "none")
    typical = [f"{method} · mlp 256×256" for method in methods]
    typical[1] += " · training.epochs=8"
    assert typical_rows(ranking)["configuration"].tolist() == typical


def test_highlighted_runs_are_the_winner_and_the_worst_of_both_verdicts() -> None:
    sweep = make_sweep()
    ranking = rank(sweep)
    ranking["verdict"] = (ranking["gap"] > 2).map({True: "overfitting", False: "underfitting"})
    runs = highlighted_runs(sweep, ranking)
    assert {role: run["configuration"] for role, run in runs.items()} == {
        "winner": "l2 λ=0.0001 + dropout p=0.2 · mlp 256×256",
        "underfitting": "none · linear",
        "overfitting": "none · mlp 1024×1024",
    }
    runs = highlighted_runs(sweep, ranking.assign(verdict="good fit"))
    assert list(runs) == ["winner"]
    assert highlighted_runs(make_table([]), rank(make_table([]))) == {}


def test_losses_on_different_validation_rows_are_ranked_separately() -> None:
    runs = seeds({"none": [5.0] * 2, "l2 λ=1": [6.0] * 2}, **{"tags.val_rows": "3465"})
    lecture = {"data.name": "lecture", "tags.val_rows": "260"}
    runs += seeds({"none": [5.5] * 2, "l2 λ=1": [9.0] * 2}, **lecture)
    ranking = ranked(*runs)
    assert ranking["table"].tolist() == ["full", "full", "lecture", "lecture"]
    assert ranking["difference"].tolist() == [0.0, 1.0, 0.0, 3.5]
    assert rows_sentence(ranking).endswith("in this order of tables: full; lecture.")
    same = ranked(*(run | {"tags.val_rows": "3465"} for run in runs))
    assert same["val_loss"].tolist() == [5.0, 5.5, 6.0, 9.0]
    assert rows_sentence(same) == ""


def test_the_configurations_that_tell_the_story_are_few() -> None:
    ranking = make_ranking(make_sweep())
    chosen = ranking.set_index("configuration_id").loc[telling_configurations(ranking)]
    assert chosen["configuration"].tolist() == [
        "l2 λ=0.0001 + dropout p=0.2 · mlp 256×256",  # the winner
        "none · linear",  # underfits most
        "none · mlp 1024×1024",  # overfits most
        "dropout p=0.2 · mlp 256×256",
        "l1 λ=0.001 · mlp 256×256",
        "weight decay λ=1 · mlp 256×256",
        "early stopping 5 · mlp 256×256",
        "l2 λ=0.001 · mlp 256×256",
        "batch norm after · mlp 256×256",
        "none · mlp 256×256",
    ]
    few = make_ranking(make_table([make_run(), make_run("l2 λ=1 + dropout p=0.1", val=8.0)]))
    assert len(telling_configurations(few)) == 2


def test_views_show_what_a_page_can_load() -> None:
    table = make_sweep()  # 78 runs
    shown = pd.Series(views_of_runs(table, make_ranking(table)))
    assert len(shown) == 78
    assert shown.value_counts().to_dict() == {"plane": 48, "curves plane": 30}
    more = pd.concat([table.assign(run_id=table["run_id"] + f"-{i}") for i in (0, 1)])
    shown = pd.Series(views_of_runs(more.reset_index(drop=True), make_ranking(table)))
    assert shown.value_counts().to_dict() == {"curves": 50, "plane": 16, "curves plane": 10}
    rows = [make_run("none", f"[{n}]", val=5.0 + n) for n in range(1, 151)]
    wide = make_table(rows).assign(run_id=[f"r{n}" for n in range(150)])
    plane = [
        run for run, views in views_of_runs(wide, make_ranking(wide)).items() if "plane" in views
    ]
    assert len(plane) == 100
    assert {"r0", "r149"} <= set(plane)  # the best and the worst
