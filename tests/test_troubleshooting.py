"""Each entry of docs/troubleshooting.md is held by tests, its messages are in the code."""

from __future__ import annotations

import re

from conftest import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")


def test_each_entry_names_its_tests() -> None:
    comments = re.findall(r"^<!-- (.*) -->$", PAGE, re.MULTILINE)
    entries = re.findall(r"^(?:### |- \*\*)", PAGE, re.MULTILINE)
    assert len(entries) == len(comments) >= 35
    for comment in comments:
        content = ""
        for name in re.split(r"[,;] ", comment):
            file, _, test = name.rpartition("::")
            if file or name.endswith(".py"):
                content = (ROOT / (file or name)).read_text(encoding="utf-8")
            assert name.endswith(".py") or f"\ndef {test}(" in content, name


def test_quoted_messages_are_in_the_code() -> None:
    """Messages in which the code fills in values, and those of Hydra, are left out."""
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*f?"', "", code)  # strings that go over several lines
    filled = r"Ambiguous|unrecognized|dvc status|argument|has layers|hydra.job|sweep.json|\?"
    filled += r"|is not text|rows.csv|warning"
    for title in re.findall(r"^### `(.*?)`", PAGE, re.MULTILINE):
        assert re.match(filled, title) or title in code, title
