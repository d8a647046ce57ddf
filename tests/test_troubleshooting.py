"""Each entry of docs/troubleshooting.md is held by a test, and messages are those of the code."""

from __future__ import annotations

import re

from conftest import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = re.split(r"^###? ", PAGE, flags=re.MULTILINE)[1:]


def test_each_entry_names_its_test() -> None:
    entries = [entry for entry in ENTRIES if "\n<!-- " in entry]
    assert len(entries) == PAGE.count("\n### ") >= 20
    for entry in entries:
        (name,) = re.findall(r"^<!-- (\S+) -->$", entry, re.MULTILINE)
        file, _, test = name.partition("::")
        assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_quoted_messages_are_in_the_code() -> None:
    """Messages in which the code fills in values, and those of Hydra, are left out."""
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*f?"', "", code)  # strings that go over several lines
    filled = r"Ambiguous|unrecognized|dvc status|argument|has (layers|not)|hydra.job|sweep.json|\?"
    filled += r"|is not text|rows.csv|warning|results|has no scheme"
    for title in re.findall(r"^### `(.*?)`", PAGE, re.MULTILINE):
        assert re.match(filled, title) or title in code, title
