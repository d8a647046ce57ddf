"""Start commands in another namespace of process numbers, as a container does."""

from __future__ import annotations

import os
import subprocess
from functools import cache

import pytest

ELSEWHERE = ["unshare", "--pid", "--fork", "--mount-proc"]
if getattr(os, "geteuid", lambda: 0)():
    ELSEWHERE.insert(1, "--map-root-user")


@cache
def _reason() -> str:
    """Return why this machine starts no process elsewhere; "" if it does."""
    try:
        done = subprocess.run([*ELSEWHERE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr.strip()


needs_namespaces = pytest.mark.skipif(bool(_reason()), reason=f"no namespaces here: {_reason()}")
