"""Log lines: one line each, in two forms, and nothing in them acts on a terminal."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.logs import Json, Logfmt


def record(message: str, **fields: object) -> logging.LogRecord:
    """Return a record as `logger.info(message, extra=fields)` makes it, at a known time."""
    made = logging.LogRecord("exporter.test", logging.WARNING, __file__, 1, message, None, None)
    made.created = 1767225600.25
    made.__dict__.update(fields)
    return made


def test_logfmt_quotes_what_is_not_plain() -> None:
    """Values with spaces, quotes or equals signs are quoted, others are not; None and booleans have words."""
    fields = {"plain": "a-b/c:1", "number": 1.5, "flag": True, "nothing": None, "empty": "", "sum": "a=b"}
    line = Logfmt().format(record('says "no"', **fields))
    assert line == (
        'ts=2026-01-01T00:00:00.250Z level=warn logger=exporter.test msg="says \\"no\\"" '
        'plain=a-b/c:1 number=1.5 flag=true nothing="" empty="" sum="a=b"'
    )


def test_json_is_one_object() -> None:
    """Fields stand beside time, level, logger and message."""
    assert json.loads(Json().format(record("hello", number=1, odd={1}))) == {
        "ts": "2026-01-01T00:00:00.250Z",
        "level": "warn",
        "logger": "exporter.test",
        "msg": "hello",
        "number": 1,
        "odd": "{1}",
    }


@pytest.mark.parametrize("formatter", [Json(), Logfmt()])
def test_a_traceback_stays_on_its_line(formatter: logging.Formatter) -> None:
    """An exception becomes a field of the line that tells of it."""
    try:
        int("broken")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    line = formatter.format(made)
    assert "ValueError: invalid literal" in line
    assert "\n" not in line


@pytest.mark.parametrize("formatter", [Json(), Logfmt()])
@given(text=st.text())
def test_no_text_breaks_out_of_its_line(formatter: logging.Formatter, text: str) -> None:
    """Whatever a name or an error holds, no character of the line acts on a terminal or ends the line."""
    line = formatter.format(record(text, field=text))
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_configuring_twice_logs_once() -> None:
    """A reload replaces the form and the level; libraries that talk much are heard from a higher level on."""
    script = """
import logging
from exporter import logs
logs.configure("debug", "json")
logs.configure("info", "logfmt")
logging.getLogger("exporter").debug("quiet")
logging.getLogger("exporter").info("once")
logging.getLogger("apscheduler.scheduler").warning("quiet")
logging.getLogger("apscheduler.scheduler").error("heard")
logging.getLogger("urllib3").info("quiet")
logging.getLogger("urllib3").warning("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [line.partition(" ")[2] for line in done.stderr.splitlines()] == [
        "level=info logger=exporter msg=once",
        "level=error logger=apscheduler.scheduler msg=heard",
        "level=warn logger=urllib3 msg=heard",
    ]
