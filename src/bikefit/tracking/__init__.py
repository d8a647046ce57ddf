"""Everything that is said to MLflow or read from it.

A sweep is a parent run; each job of it is a child. A job with holdout validation is a member and
its run holds the member's record; a job with k-fold validation is a run that carries mean and
standard error over its folds, with one child run a fold.

MLflow takes a second to load, so a name is fetched from its module when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bikefit.tracking.connection import (
        GONE,
        PATIENCE,
        AwayError,
        TrackingError,
        address,
        client,
        experiment_id,
        in_use,
        in_words,
        server,
    )  # fmt: skip
    from bikefit.tracking.names import (
        FINGERPRINT,
        KIND,
        OWNER,
        PARENT,
        PREDICTIONS,
        REUSED,
        SWEEP,
        VERDICT,
    )
    from bikefit.tracking.outbox import UNSENT, keep, refused, send_epochs, send_unsent, unsent
    from bikefit.tracking.reading import (
        Finished,
        as_read,
        children,
        download,
        find_finished,
        latest_sweep,
        read_artifact,
        read_config,
        read_history,
        read_predictions,
        read_run,
        read_runs,
        read_steps,
        read_weights,
        recorded,
        sweep_name,
    )  # fmt: skip
    from bikefit.tracking.views import COLOURS, latest_links, pages, view_lines, view_links
    from bikefit.tracking.writing import (
        Sent,
        best,
        close_dead,
        fail,
        finish_folds,
        finish_member,
        finish_refit,
        finish_sweep,
        log_counts,
        log_files,
        parameters,
        refer,
        start_fold,
        start_job,
        start_refit,
        start_sweep,
        tag_verdicts,
    )  # fmt: skip

__all__ = [
    "COLOURS",
    "FINGERPRINT",
    "GONE",
    "KIND",
    "OWNER",
    "PARENT",
    "PATIENCE",
    "PREDICTIONS",
    "REUSED",
    "SWEEP",
    "UNSENT",
    "VERDICT",
    "AwayError",
    "Finished",
    "Sent",
    "TrackingError",
    "address",
    "as_read",
    "best",
    "children",
    "client",
    "close_dead",
    "download",
    "experiment_id",
    "fail",
    "find_finished",
    "finish_folds",
    "finish_member",
    "finish_refit",
    "finish_sweep",
    "in_use",
    "in_words",
    "keep",
    "latest_links",
    "latest_sweep",
    "log_counts",
    "log_files",
    "pages",
    "parameters",
    "read_artifact",
    "read_config",
    "read_history",
    "read_predictions",
    "read_run",
    "read_runs",
    "read_steps",
    "read_weights",
    "recorded",
    "refer",
    "refused",
    "send_epochs",
    "send_unsent",
    "server",
    "start_fold",
    "start_job",
    "start_refit",
    "start_sweep",
    "sweep_name",
    "tag_verdicts",
    "unsent",
    "view_lines",
    "view_links",
]  # fmt: skip

_MODULES = ("connection", "names", "outbox", "reading", "views", "writing")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(importlib.import_module, (f"{__name__}.{part}" for part in _MODULES)):
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
