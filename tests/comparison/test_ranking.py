from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from bikefit.comparison.ranking import (
    highlighted_runs,
    least_flexible,
    rank,
    typical_rows,
    winner,
)
from bikefit.comparison.runs import loss_unit, run_table
from bikefit.comparison.sentences import (
    choice_sentence,
    failure_sentence,
    noise_sentence,
    number,
    rows_sentence,
    winner_sentence,
    winners_sentence,
)
from bikefit.comparison.tables import ranking_note

Run = Callable[..., dict[str, Any]]


def two_methods(run: Run) -> pd.DataFrame:
    """None: validation 7, 8, 9; l2: 6, 7.5, 8: leads of 1, 0.5 and 1."""
    return pd.DataFrame(
        [run("none", seed=s, train=4.0, val=v) for s, v in enumerate([7.0, 8.0, 9.0])]
        + [run("l2 λ=0.1", seed=s, train=5.0, val=v) for s, v in enumerate([6.0, 7.5, 8.0])]
    )


def test_a_run_has_a_row_with_settings_and_losses(run: Run) -> None:
    row = run("l2 λ=0.1", "[64,32]", seed=3, train=4.0, val=6.5, **{"regularization.l2": 0.1})
    found = run_table(pd.DataFrame([row])).iloc[0]
    assert found["run_id"] == "l2 λ=0.1-[64,32]-3"
    assert found["configuration"] == "l2 λ=0.1 · mlp 64×32"
    assert (found["regularization"], found["kind"], found["l2"]) == ("l2 λ=0.1", "l2", 0.1)
    assert (found["network"], found["seed"], found["table"]) == ("mlp 64×32", 3, "full")
    assert (found["train_loss"], found["val_loss"], found["gap"]) == (4.0, 6.5, 2.5)
    assert (found["val_rmse"], found["val_deviance"], found["best_epoch"]) == (65.0, 13.0, 40.0)


def test_a_linear_network_has_no_widths(run: Run) -> None:
    assert run_table(pd.DataFrame([run(hidden="[]")]))["network"].tolist() == ["linear"]


def test_a_failed_run_keeps_its_row_without_losses(run: Run) -> None:
    found = run_table(pd.DataFrame([run(), run(seed=1, failure="loss is not finite")]))
    assert found["status"].tolist() == ["FINISHED", "FAILED"]
    assert math.isnan(found["val_loss"][1])
    assert found["failure"][1] == "loss is not finite"


def test_another_swept_setting_tells_configurations_apart(run: Run) -> None:
    rates = (0.01, 0.001)
    runs = pd.DataFrame([run(val=6 + r, **{"optimizer.lr": r}) for r in rates])
    table = run_table(runs)
    assert table["optimizer.lr"].tolist() == [0.01, 0.001]
    assert table["configuration"].tolist() == [
        "none · mlp 256×256 · optimizer.lr=0.01",
        "none · mlp 256×256 · optimizer.lr=0.001",
    ]
    assert len(rank(runs)) == 2


def test_a_setting_that_follows_the_network_is_no_part_of_the_name(run: Run) -> None:
    table = run_table(pd.DataFrame([run(hidden="[]"), run()]))
    assert table["configuration"].tolist() == ["none · linear", "none · mlp 256×256"]
    assert table["network.activation"].tolist() == ["identity", "gelu"]


def test_the_same_strengths_under_another_group_name_are_one_configuration(run: Run) -> None:
    runs = [
        run("l2 λ=0.1", seed=s, **{"regularization.name": n}) for s, n in ((0, "l2"), (1, "none"))
    ]
    assert rank(pd.DataFrame(runs))["seeds"].tolist() == [2]


def test_means_spreads_and_leads_by_hand(run: Run) -> None:
    first, second = rank(two_methods(run)).to_dict("records")
    assert (first["regularization"], second["regularization"]) == ("l2 λ=0.1", "none")
    assert first["val_loss"] == pytest.approx(21.5 / 3)
    assert second["val_loss"] == pytest.approx(8.0)
    assert second["val_loss_std"] == pytest.approx(1.0)
    assert second["val_loss_se"] == pytest.approx(1 / math.sqrt(3))
    assert second["gap"] == pytest.approx(4.0)
    assert second["difference"] == pytest.approx(2.5 / 3)
    # Scatter relative to the loss, pooled over both: variances 1/8² and (13/12)/(21.5/3)², so
    # that each mean over three seeds has a third of their mean, times its own loss squared.
    pooled = (1 / 64 + 13 / 12 / (21.5 / 3) ** 2) / 2
    of_none, of_l2 = pooled * 64 / 3, pooled * (21.5 / 3) ** 2 / 3
    assert second["difference_se"] == pytest.approx(math.sqrt(of_none + of_l2))
    assert second["within_noise"] is True
    assert first["difference"] == 0.0
    assert pd.isna(first["within_noise"])


def test_a_lead_is_beyond_the_noise_by_students_t(run: Run) -> None:
    """Two seeds each, validation losses 10 ± 0.1 %: the limit is t with 4 degrees of freedom."""

    def within(lead: float) -> Any:
        low = [run("l2 λ=1", seed=s, val=10 + d) for s, d in enumerate((-0.01, 0.01))]
        high = [run(seed=s, val=(10 + lead) * (1 + d / 10)) for s, d in enumerate((-0.01, 0.01))]
        return bool(rank(pd.DataFrame(low + high))["within_noise"][1])

    # Variance 2e-6 of the squared loss, half of it for a mean over two seeds, twice for a
    # difference of 10 and of 10.04: an error of 0.0142. Pooled over both, it has 2 degrees, and
    # each has it: 4 of the difference, t is 2.776 and the limit 0.0393.
    assert within(0.0390)
    assert not within(0.0397)


def test_a_lead_smaller_than_the_noise_is_within_it(run: Run) -> None:
    values = {"none": [7.0, 9.0], "dropout p=0.1": [8.0, 8.5]}
    runs = [run(m, seed=s, val=v) for m, vs in values.items() for s, v in enumerate(vs)]
    last = rank(pd.DataFrame(runs)).iloc[1]
    assert last["difference"] == pytest.approx(0.25)
    # relative variances 2/8² and 0.125/8.25², pooled; each mean over two seeds has half of that
    pooled = (2 / 8**2 + 0.125 / 8.25**2) / 2
    assert last["difference_se"] == pytest.approx(math.sqrt(pooled / 2 * (8**2 + 8.25**2)))
    assert last["within_noise"]


def test_equal_results_are_within_noise(run: Run) -> None:
    runs = [run(m, seed=s, val=7.0 + s) for m in ("none", "early stopping 99") for s in range(2)]
    assert rank(pd.DataFrame(runs))["within_noise"][1]


def test_a_lead_is_the_difference_of_means_over_all_seeds(run: Run) -> None:
    runs = two_methods(run).query("not (method == 'none' and seed == 2)")
    last = rank(runs).iloc[1]
    assert (last["seeds"], last["difference"]) == (2, pytest.approx(7.5 - 21.5 / 3))


def test_one_seed_leaves_the_noise_unknown(run: Run) -> None:
    ranking = rank(pd.DataFrame([run(val=7.0), run("l2 λ=0.1", val=6.0)]))
    assert ranking["within_noise"].isna().all()
    assert ranking["val_loss_std"].isna().all()
    assert ranking["difference"].tolist() == [0.0, 1.0]
    assert "the noise is unknown" in noise_sentence(ranking)
    assert "6.000 (half Poisson deviance, bikes/hour; one seed)" in winner_sentence(ranking)


def test_a_run_repeated_with_the_same_seed_counts_once(run: Run) -> None:
    ranking = rank(pd.DataFrame([run(seed=0, val=6.0), run(seed=0, val=6.0), run(seed=1, val=7.0)]))
    assert (ranking["seeds"][0], ranking["val_loss"][0]) == (2, 6.5)


def test_failed_runs_are_counted_and_come_last(run: Run) -> None:
    runs = [run(seed=0), run(seed=1, failure="x"), run("l1 λ=9", seed=0, failure="y")]
    ranking = rank(pd.DataFrame(runs))
    assert ranking["regularization"].tolist() == ["none", "l1 λ=9"]
    assert ranking["failed"].tolist() == [1, 1]
    assert ranking["seeds"].tolist() == [1, 0]
    assert failure_sentence(ranking) == (
        "2 of 3 runs failed or did not finish: "
        "none · mlp 256×256 (1 of 2), l1 λ=9 · mlp 256×256 (1 of 1)."
    )


def test_all_failed(run: Run) -> None:
    ranking = rank(pd.DataFrame([run(seed=s, failure="x") for s in range(3)]))
    assert winner(ranking) is None
    assert winner_sentence(ranking) == "No run finished (of 3)."
    assert ranking_note(ranking).startswith("**No run finished (of 3).**\n\n3 of 3 runs failed")


def test_one_run(run: Run) -> None:
    ranking = rank(pd.DataFrame([run()]))
    assert noise_sentence(ranking) == ""
    assert "none · mlp 256×256 has the lowest validation loss: 7.000" in ranking_note(ranking)


def test_no_runs() -> None:
    ranking = rank(pd.DataFrame())
    assert ranking.empty
    assert {"val_loss", "difference", "within_noise"} <= set(ranking)
    assert ranking_note(ranking) == "**The sweep has no runs.**"


def test_cross_validation_takes_its_noise_from_the_folds(run: Run) -> None:
    folds = {"validation.folds": 4}
    runs = [
        run("none", val=8.0, **folds, **{"best/val/loss/standard_error": 0.3}),
        run("l2 λ=0.1", val=7.5, **folds, **{"best/val/loss/standard_error": 0.4}),
    ]
    ranking = rank(pd.DataFrame(runs))
    assert ranking["val_loss_se"].tolist() == [0.4, 0.3]
    assert ranking["val_loss_std"].tolist() == [0.8, 0.6]
    # one seed each: nothing shows the scatter between seeds
    assert math.isnan(ranking["difference_se"][1])
    assert "over 4 folds" in winner_sentence(ranking)
    assert run_table(pd.DataFrame(runs))["val_loss_se"].tolist() == [0.3, 0.4]


def test_leads_of_cross_validation_are_paired_by_fold(run: Run) -> None:
    def job(method: str, seed: int, values: tuple[float, ...]) -> dict[str, Any]:
        more = {"best/val/loss/standard_error": 1.0, "folds/best/val/loss": values}
        val = sum(values) / len(values)
        return run(method, seed=seed, val=val, **{"validation.folds": 3}, **more)

    runs = [
        job("l2 λ=0.1", 0, (4.0, 6.0, 8.0)), job("l2 λ=0.1", 1, (4.2, 6.2, 8.2)),
        job("none", 0, (4.5, 6.5, 9.0)), job("none", 1, (4.5, 6.9, 8.9)),
    ]  # fmt: skip
    behind = rank(pd.DataFrame(runs)).iloc[1]
    # Means over seeds: 0.4, 0.6 and 0.85 behind; deviations from their mean 0.6167:
    # -0.2167, -0.0167 and 0.2333, so the sum of squares is 0.10167.
    assert behind["difference"] == pytest.approx(1.85 / 3)
    # Nadeau and Bengio: their variance times 1/3 + 1/2. Seeds: relative variances of 6 and 6.2
    # about 6.1, and of 6.6667 and 6.7667 about 6.7167, pooled and halved.
    of_folds = 0.1016667 / 2 * (1 / 3 + 1 / 2)
    pooled = (0.2**2 / 2 / 6.1**2 + 0.1**2 / 2 / (40.3 / 6) ** 2) / 2
    of_seeds = pooled / 2 * (6.1**2 + (40.3 / 6) ** 2)
    assert behind["difference_se"] == pytest.approx(math.sqrt(of_folds + of_seeds), rel=1e-5)


def test_different_losses_are_ranked_by_deviance(run: Run) -> None:
    runs = [
        run(val=7.0, **{"best/val/deviance": 14.0}),
        run(val=0.1, loss="mse", **{"best/val/deviance": 15.0}),
    ]
    ranking = rank(pd.DataFrame(runs))
    assert ranking["configuration"].tolist() == [
        "none · mlp 256×256 · loss=poisson",
        "none · mlp 256×256 · loss=mse",
    ]
    assert loss_unit(ranking) == "Poisson deviance, bikes/hour"
    assert "lowest validation deviance: 14.00" in winner_sentence(ranking)


def test_the_note_names_the_winner_the_noise_and_the_table(run: Run) -> None:
    note = ranking_note(rank(two_methods(run)))
    assert note.startswith(
        "**l2 λ=0.1 · mlp 256×256 has the lowest validation loss: 7.167 ± 1.041 "
        "(half Poisson deviance, bikes/hour; ± standard deviation over 3 seeds), "
        "RMSE 71.7 bikes/hour.**"
    )
    assert (
        "95 % confidence; noise of seeds and validation days): 1, namely none · mlp 256×256."
        in note
    )
    assert "| ≈2 | none · mlp 256×256 | 3 | 4.000 | 8.000 ± 1.000 | 4.000 | 80.0 |" in note


def test_the_note_names_what_is_within_noise(sweep: pd.DataFrame) -> None:
    ranking = rank(sweep)
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
def test_number(value: float, like: float, text: str) -> None:
    assert number(value, like) == text


def test_between_two_sweeps(run: Run) -> None:
    first = rank(pd.DataFrame([run(seed=s, val=7 + s / 10) for s in range(2)]))
    second = rank(pd.DataFrame([run("l2 λ=0.1", seed=s, val=6 + s / 10) for s in range(2)]))
    sentence = winners_sentence(first, second)
    assert "The winner of the second sweep has the lower validation loss" in sentence
    assert "l2 λ=0.1 · mlp 256×256 (6.050 ± 0.071) against none" in sentence
    assert sentence.endswith("the difference is significant.")
    assert winners_sentence(first, first).endswith("the difference is not significant.")


def test_sweeps_that_cannot_be_compared(run: Run) -> None:
    one, other = rank(pd.DataFrame([run()])), rank(pd.DataFrame([run(**{"data.name": "lecture"})]))
    assert "full and lecture are different tables" in winners_sentence(one, other)
    assert "has no result" in winners_sentence(one, rank(pd.DataFrame()))


def test_sweeps_of_different_losses_are_compared_by_deviance(run: Run) -> None:
    one = rank(pd.DataFrame([run(val=7.0)]))
    other = rank(pd.DataFrame([run(val=0.1, loss="mse", **{"best/val/deviance": 13.0})]))
    assert "second sweep has the lower validation deviance" in winners_sentence(one, other)
    assert winners_sentence(one, other).endswith("of unknown significance.")


def test_the_one_standard_error_rule_chooses_the_least_flexible_close_one(run: Run) -> None:
    rows = [
        run(method, seed=seed, train=train, val=val + shift)
        for method, train, val in (("none", 1.0, 5.0), ("l2 λ=1", 3.0, 5.5), ("l1 λ=1", 4.0, 6.5))
        for seed, shift in enumerate([-1.0, 0.0, 1.0])
    ]
    ranking = rank(pd.DataFrame(rows))
    # standard error of the best: 1 / √3 = 0.577, so 5.5 is close enough and 6.5 is not
    chosen = least_flexible(ranking)
    assert chosen is not None
    assert chosen["configuration"] == "l2 λ=1 · mlp 256×256"
    assert choice_sentence(ranking) == (
        "The one-standard-error rule chooses l2 λ=1 · mlp 256×256, with 5.500: "
        "the least flexible within 0.577 of the best."
    )


def test_the_one_standard_error_rule_without_an_error_or_a_result(run: Run) -> None:
    alone = rank(pd.DataFrame([run("none", val=5.0), run("l2 λ=1", val=5.1, train=6.0)]))
    assert choice_sentence(alone).endswith("the rule chooses none · mlp 256×256, the best.")
    failed = rank(pd.DataFrame([run(failure="no")]))
    assert choice_sentence(failed) == "Nothing can be chosen: no run finished."


def test_the_story_has_the_winners_network_with_nothing_else_changed(run: Run) -> None:
    """Not a shorter training of it, though that is the better one without regularization."""
    runs = pd.DataFrame([
        run("l2 λ=0.1", val=3.0), run(val=4.6), run(val=3.3, **{"training.epochs": 8}),
        run(val=5.8, **{"training.epochs": 60}), run("l1 λ=1", val=4.0),
    ]).assign(run_id=list("abcde"))  # fmt: skip
    ranking = rank(runs).assign(verdict="undecided")
    names = ranking["configuration"].tolist()
    assert "none · mlp 256×256 · training.epochs=8" in names
    told = typical_rows(ranking)["configuration"].tolist()
    assert told == [
        "l2 λ=0.1 · mlp 256×256", "none · mlp 256×256 · training.epochs=8",
        "l1 λ=1 · mlp 256×256", "none · mlp 256×256",
    ]  # fmt: skip


def test_the_cast_is_winner_underfitting_and_overfitting(sweep: pd.DataFrame) -> None:
    found = highlighted_runs(run_table(sweep), rank(sweep))
    assert {role: run["configuration"] for role, run in found.items()} == {
        "winner": "l2 λ=0.0001 + dropout p=0.2 · mlp 256×256",
        "underfitting": "none · linear",
        "overfitting": "none · mlp 1024×1024",
    }


def test_the_cast_respects_verdicts(sweep: pd.DataFrame) -> None:
    ranking = rank(sweep)
    ranking["verdict"] = "good fit"
    ranking.loc[ranking["configuration"] == "none · mlp 4", "verdict"] = "underfitting"
    found = highlighted_runs(run_table(sweep), ranking)
    assert {role: run["configuration"] for role, run in found.items()} == {
        "winner": "l2 λ=0.0001 + dropout p=0.2 · mlp 256×256", "underfitting": "none · mlp 4",
    }  # fmt: skip


def test_losses_on_different_validation_rows_are_ranked_separately(run: Run) -> None:
    rows = [
        run(method, seed=seed, val=val, **{"data.name": name, "tags.val_rows": count})
        for name, count, losses in (("full", "3465", (5.0, 6.0)), ("lecture", "260", (5.5, 9.0)))
        for method, val in zip(("none", "l2 λ=1"), losses, strict=True)
        for seed in (0, 1)
    ]
    ranking = rank(pd.DataFrame(rows))
    assert ranking["table"].tolist() == ["full", "full", "lecture", "lecture"]
    assert ranking["difference"].tolist() == [0.0, 1.0, 0.0, 3.5]
    assert rows_sentence(ranking).endswith("in this order of tables: full; lecture.")
    same = rank(pd.DataFrame([row | {"tags.val_rows": "3465"} for row in rows]))
    assert same["val_loss"].tolist() == [5.0, 5.5, 6.0, 9.0]
    assert rows_sentence(same) == ""


def test_the_sentence_has_the_configured_confidence(run: Run) -> None:
    assert "(99.9 % confidence" in noise_sentence(rank(two_methods(run), confidence=0.999))
