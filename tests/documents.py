"""The commands that documents show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/runbooks/*.md")),
    ROOT / "deploy" / "README.md",
]
_FENCE: Final = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CRON: Final = re.compile(r"^(?:\S+ ){5}root (.*)$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Return all commands with the page that shows them."""
    return [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands_in(page.read_text())]


def commands_in(text: str) -> list[str]:
    """Return the commands that a text shows; a line that goes on in the next one is one."""
    lines = [line for block in _FENCE.findall(text) for line in block.replace("\\\n", "").splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def cron_lines() -> list[str]:
    """Return the commands that documents give to cron."""
    return [line for page in PAGES for line in _CRON.findall(page.read_text())]
