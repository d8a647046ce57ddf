"""Imported by the fork server: workers do not run the main module of a command or script.

They need none of it. It may have no file (``python - < script``), or it may start the sweep without
``if __name__ == "__main__"``.
"""

from multiprocessing import spawn


def _skip_main(_: str) -> None:
    """Replace the functions that run the main module again, by its name or path."""


spawn._fixup_main_from_path = spawn._fixup_main_from_name = _skip_main  # type: ignore[attr-defined]
