"""Training of a stack with Lightning, and the results of its members."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from bikefit.losses import LOSSES
from bikefit.nn.randomness import derive
from bikefit.training.callbacks import CheckpointCallback, EpochSelection, StopCheck
from bikefit.training.checkpoints import CheckpointDir
from bikefit.training.data import Rows
from bikefit.training.devices import trainer_device, use_avx512
from bikefit.training.evaluation import (
    constant_losses,
    evaluate_average,
    predictions,
    remaining_decrease,
)
from bikefit.training.folds import Pool
from bikefit.training.members import Member, MemberResult, Stopped, layer_specs
from bikefit.training.module import StackModule

PROBE_LR = 0.1  # learning rate of a probe / that of training; otherwise noise hides the decrease
IGNORED_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",
    # Lightning warns where Slurm is installed, even if it is not used.
    "The `srun` command is available on your system",
)


def fit_stack(
    members: Sequence[Member],
    pool: Pool,
    directory: CheckpointDir | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[MemberResult]:
    """Train members side by side and return their results.

    Args:
        members: M members with equal :func:`~bikefit.training.members.stack_key`.
        pool: Rows of their table.
        directory: Folder for checkpoints, from which training resumes; None for no checkpoints.
        stopping: Called after each step; if it returns True, training stops, and the results are
            those of the finished epochs.

    Raises:
        Stopped: Training was stopped before the end of the first epoch.
    """
    settings = members[0].settings
    torch.manual_seed(derive(settings.seed, "layers that draw for themselves"))
    torch.set_num_threads(1)  # results are repeatable; parallelism is by processes
    use_avx512()
    module = make_module(members, pool)
    selection = EpochSelection([m.settings.regularization.patience for m in members])
    checkpoints = [CheckpointCallback(directory, selection)] if directory else []
    final: dict[str, torch.Tensor] = {}
    try:
        run_trainer(module, [selection, *checkpoints, StopCheck(stopping)])
        final = run_probe(module, selection, stopping)
    except Stopped:
        if not module.history:
            raise
        selection.stop()
    final = constant_losses(module) | final
    module.stack.load(selection.selected_state)
    if settings.regularization.averaged:
        final |= evaluate_average(module, settings.regularization.averaged)
    return _results(module, selection, final)


def make_module(members: Sequence[Member], pool: Pool) -> StackModule:
    """Return the module of a stack before training."""
    settings = [member.settings for member in members]
    folds = [pool.folds(member.settings)[member.fold or 0] for member in members]
    return StackModule(settings, Rows(pool, folds))


def run_trainer(module: StackModule, callbacks: Sequence[pl.Callback], **options: Any) -> None:
    """Train a stack, which stays on its device; ``options`` are arguments of the Trainer."""
    settings = module.settings[0]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    defaults = {
        **trainer_device(settings.trainer.accelerator),
        "max_epochs": settings.training.epochs,
        "callbacks": list(callbacks),
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        # Otherwise Lightning would detect Slurm and handle its signals.
        "plugins": LightningEnvironment(),
    }
    with warnings.catch_warnings():
        for message in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer = pl.Trainer(**(defaults | options))
        try:
            trainer.fit(module)
        finally:
            module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU


def run_probe(
    module: StackModule, selection: EpochSelection, stopping: Callable[[], bool] = lambda: False
) -> dict[str, torch.Tensor]:
    """Train for a few more epochs to estimate whether training was finished.

    The probe starts from the selected epochs, with one cycle of a tenth of the learning rate. It
    changes the parameters of the stack.

    Returns:
        ``unfinished``, see :func:`remaining_decrease`, ``(M,)``, NaN for members that did not train
        all epochs. Empty if none did, and without a probe (``training.probe``).

    Raises:
        Stopped: Training was stopped.
    """
    epochs = module.settings[0].training.probe_epochs
    device = module.rows.features.device
    failed = torch.tensor([failure != "" for failure in selection.failure], device=device)
    full = ~torch.tensor(selection.done, device=device) & ~failed
    if not epochs or not full.any():
        return {}
    module.optimizer_settings = module.optimizer_settings.model_copy(
        update={"schedule": "one_cycle"}
    )
    module.lr = [rate * PROBE_LR for rate in module.lr]
    module.stack.load(selection.selected_state)
    module.train()  # evaluation has set another mode
    run_trainer(module, [StopCheck(stopping)], max_epochs=epochs, limit_val_batches=0)
    estimate = remaining_decrease(module, selection.selected_state)
    return {"unfinished": estimate.masked_fill(~full, torch.nan)}


def _results(
    module: StackModule, selection: EpochSelection, final: dict[str, torch.Tensor]
) -> list[MemberResult]:
    rows, pool = module.rows, module.rows.pool
    history, values, state = map(_to_numpy, (module.metrics(), final, selection.selected_state))
    on_all_rows = _to_numpy(module.measure(rows.masks)).items()
    values |= {f"best/{name}": value for name, value in on_all_rows if name.startswith("train/")}
    specs = layer_specs(module.settings[0], rows.features.shape[1])
    predicted = predictions(module).cpu().numpy()
    results = []
    for m, last in enumerate(selection.last_epoch):
        fold = rows.folds[rows.fold_of[m]]
        order = np.argsort(pool.keys[fold.validation], kind="stable")
        held_out = fold.validation[order]
        summary = {name: float(v[m]) for name, v in values.items()}
        for part, used in (("train", fold.train), ("val", held_out)):
            target, prediction = pool.target[used], predicted[m, rows.positions[used]]
            for name, measure in LOSSES[module.settings[0].loss].of_all_rows.items():
                summary[f"best/{part}/{name}"] = float(measure(target, prediction))
        result = MemberResult(
            metrics={
                name: metric[m, :last]
                for name, metric in history.items()
                # NaN are the penalty of a layer that only other members penalize, and the deviance
                # of a target that is not a count.
                if name.endswith("/loss") or not np.isnan(metric[m]).all()
            },
            final={name: value for name, value in summary.items() if not np.isnan(value)},
            selected=selection.selected[m],
            failure=selection.failure[m],
            killed=selection.killed[m],
            # In C order: safetensors writes wrong values of transposed arrays.
            state={name: np.asarray(value[m], order="C") for name, value in state.items()},
            predictions=pool.labels(held_out)
            | {"predicted": predicted[m, rows.positions[held_out]]},
            layers=[{"name": s.name, "_target_": s.target, **s.args} for s in specs],
            parameters=sum(p[0].numel() for p in module.stack.parameters()),
            train_rows=len(fold.train),
            val_rows=len(fold.validation),
            timestamps=selection.timestamps[:last],
        )
        results.append(result)
    return results


def _to_numpy(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.cpu().numpy() for name, value in values.items()}
