"""Fit one stack from its members to their results. Plain data in, plain data out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from bikefit.config import Settings
from bikefit.nn.networks import parameter_count
from bikefit.nn.randomness import derive
from bikefit.nn.stacking import Stack
from bikefit.training.afterwards import (
    average,
    constant_losses,
    losses,
    predictions,
    unfinished,
)
from bikefit.training.callbacks import Checkpoints, Progress, Selection, Telling
from bikefit.training.checkpoints import Place
from bikefit.training.data import Batches, Rows, StackData
from bikefit.training.devices import place
from bikefit.training.epochs import Writer
from bikefit.training.folds import Pool
from bikefit.training.members import Member, MemberResult, Stopped, layers
from bikefit.training.module import StackModule
from bikefit.training.strengths import make_network, strengths


def fit_stack(
    members: Sequence[Member], pool: Pool, report: Callable[[int], Any] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False, place: Place | None = None,
    told: Writer | None = None,
) -> list[MemberResult]:  # fmt: skip
    """Train members that share a stack key, side by side.

    Args:
        members: M members with equal :func:`stack_key`.
        pool: Rows that their folds divide.
        report: called after each epoch with the number of member-epochs done.
        stopping: asked after each step; once it says yes, members end with what they have.
        place: where checkpoints are kept, and training goes on where there is one.
        told: takes what each epoch has given, as soon as it is done.

    Returns:
        The members' results in their order.

    Raises:
        Stopped: it was asked to stop before the end of the first epoch.
    """
    settings = members[0].settings
    torch.manual_seed(derive(settings.seed, "layers that draw for themselves"))
    torch.set_num_threads(1)  # parallel work is done by processes; also makes results repeatable
    module, data = _assemble(members, pool)
    selection = Selection([m.settings.regularization.patience for m in members])
    keeping = [Checkpoints(place, selection)] if place is not None else []
    telling = [Telling(told, selection)] if told is not None else []
    watching = [*keeping, *telling, Progress(report, stopping)]
    looked: dict[str, torch.Tensor] = {}
    try:
        train(module, data, settings, [selection, *watching])
        looked = look_ahead(module, data, settings, selection, stopping)
    except Stopped:
        if not module.history:
            raise
        selection.stop()
    final = _final(module, selection, looked, settings.regularization.averaged)
    return _results(members, module, selection, final)


def _assemble(members: Sequence[Member], pool: Pool) -> tuple[StackModule, StackData]:
    settings = members[0].settings
    features = pool.features.shape[1]
    every = [pool.folds(member.settings)[member.fold or 0] for member in members]
    folds, fold_index = _distinct([id(fold) for fold in every], every)
    rows = Rows(pool, folds, fold_index)
    seeds = [m.settings.seed for m in members]
    streams, stream_index = _distinct(
        list(zip(seeds, fold_index, strict=True)),
        [(s, rows.train_rows[f]) for s, f in zip(seeds, fold_index, strict=True)],
    )
    networks = [make_network(m.settings, features) for m in members]
    module = StackModule(
        Stack(networks), rows, stream_index, seeds,
        [strengths(m.settings, n) for m, n in zip(members, networks, strict=True)],
        settings.optimizer, [m.settings.optimizer.lr for m in members], settings.loss,
    )  # fmt: skip
    batches = Batches(streams, settings.training.batch_size)
    return module, StackData(batches, len(rows.target))


def _distinct(keys: Sequence[Any], values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Return one value for each distinct key, and the position of each key among them."""
    positions: dict[Any, int] = {}
    found: list[Any] = []
    for key, value in zip(keys, values, strict=True):
        if key not in positions:
            positions[key] = len(found)
            found.append(value)
    return found, [positions[key] for key in keys]


def train(
    module: StackModule, data: StackData, settings: Settings, callbacks: list[pl.Callback],
    **more: Any,
) -> None:  # fmt: skip
    """Let Lightning train a stack; afterwards it is still on its device.

    Args:
        module: of the stack.
        data: its rows.
        settings: what the members share.
        callbacks: that watch.
        more: for the trainer, in the place of what follows from the settings.
    """
    with warnings.catch_warnings():
        _expect_warnings()
        trainer = _trainer(settings, callbacks, **more)
        try:
            trainer.fit(module, datamodule=data)
        finally:
            module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU


def _trainer(settings: Settings, callbacks: list[pl.Callback], **more: Any) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    return pl.Trainer(**{
        **place(settings.trainer.accelerator),
        "max_epochs": settings.training.epochs,
        "callbacks": callbacks,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        # A stack is one process whatever started it; Lightning would look for Slurm's signals.
        "plugins": LightningEnvironment(),
        **more,
    })  # fmt: skip


SLOWER = 10  # times lower the learning rate of a look ahead: at its own, noise hides what is gained


def look_ahead(
    module: StackModule, data: StackData, settings: Settings, selection: Selection,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Train on for a little while, to see whether training was finished.

    One more cycle of the learning rate, a tenth as high, from the selected epochs on and without
    measuring epochs. The stack is given back as it was.

    Args:
        module: a stack at its last epoch.
        data: its rows.
        settings: what the members share; ``training.probe`` is for how many of its epochs.
        selection: knows the selected epochs, and who has failed or stopped early.
        stopping: asked after each step.

    Returns:
        ``(M,)`` each, nothing where no look is taken. ``unfinished``, as
        :func:`bikefit.training.afterwards.unfinished` measures it, of members that have trained to
        the end. ``unfinished/val`` of those that stopped early, which says whether the turn of
        their curve was one of the network or of the learning rate: the share by which the
        validation loss falls. NaN for all others.

    Raises:
        Stopped: it was asked to stop.
    """
    epochs = settings.training.probe_epochs
    failed = torch.tensor([failure is not None for failure in selection.failure])
    if not epochs or failed.all():
        return {}
    end, shared, rates = module.stack.state(), module.optimizer_settings, module.lr
    module.optimizer_settings = shared.model_copy(update={"schedule": "one_cycle"})
    module.lr = [rate / SLOWER for rate in rates]
    try:
        module.stack.load(selection.state)
        val = losses(module, "val")
        watching: list[pl.Callback] = [Progress(lambda _: None, stopping)]
        module.train()  # measuring has left it in evaluation mode
        train(module, data, settings, watching, max_epochs=epochs, limit_val_batches=0)
        turned = (1 - losses(module, "val") / val).clamp_min(0.0)
        share = unfinished(module, selection.state)
    finally:
        module.stack.load(end)
        module.optimizer_settings, module.lr = shared, rates
    done, failed = torch.tensor(selection.done, device=share.device), failed.to(share.device)
    return {
        "unfinished": share.masked_fill(done, float("nan")),
        "unfinished/val": turned.masked_fill(failed | ~done, float("nan")),
    }


def _expect_warnings() -> None:
    # None says anything about our data: rows lie in memory, and there is no logger on purpose.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
    warnings.filterwarnings("ignore", ".*Consider setting `persistent_workers=True`.*")
    # A machine that has Slurm need not train under it.
    warnings.filterwarnings("ignore", "The `srun` command is available on your system")


def _final(
    module: StackModule, selection: Selection, looked: dict[str, torch.Tensor], samples: int
) -> dict[str, np.ndarray]:
    """Measure once, with the parameters of the selected epochs: ``(M,)`` each."""
    measured = constant_losses(module) | looked
    module.stack.load(selection.state)
    if samples:
        measured |= average(module, samples)
    return {name: values.cpu().numpy() for name, values in measured.items()}


def _predictions(module: StackModule) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return time, rentals and prediction of each member's validation rows, in time order."""
    of = module.rows
    pool, predicted = of.pool, predictions(module).cpu().numpy()
    shared = []  # members of a fold have the same rows
    for fold in of.folds:
        rows = fold.validation[np.argsort(pool.timestamps[fold.validation], kind="stable")]
        shared.append((pool.timestamps[rows], pool.target[rows], of.place[rows]))
    return [
        (shared[f][0], shared[f][1], predicted[m, shared[f][2]])
        for m, f in enumerate(of.fold_of.tolist())
    ]


def _results(
    members: Sequence[Member], module: StackModule, selection: Selection,
    final: dict[str, np.ndarray],
) -> list[MemberResult]:  # fmt: skip
    history = {
        name: torch.stack([epoch[name] for epoch in module.history]).cpu().numpy()
        for name in module.history[0]
    }  # (E, M) each
    state = {name: value.cpu().numpy() for name, value in selection.state.items()}
    counts = module.rows.counts.long().tolist()
    predicted = _predictions(module)
    specs = layers(members[0].settings, module.rows.features.shape[1])
    return [
        MemberResult(
            metrics={
                name: values[: selection.last[m], m]
                for name, values in history.items()
                if module.strengths[m].concern(name)
            },
            final={k: float(v[m]) for k, v in final.items() if not np.isnan(v[m])},
            selected=selection.selected[m],
            failure=selection.failure[m],
            state={name: np.asarray(value[m]) for name, value in state.items()},
            predictions=predicted[m],
            layers=[{"name": s.name, "_target_": s.target, **s.args} for s in specs],
            parameters=parameter_count(module.stack) // len(members),
            train_rows=counts[0][m],
            val_rows=counts[1][m],
        )
        for m in range(len(members))
    ]
