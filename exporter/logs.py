"""Log lines for machines to read and people to grep: logfmt or JSON, one line each, on standard error."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exporter.publish.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

_LEVEL_NAMES: Final = {level: name for name, level in LEVELS.items()} | {logging.CRITICAL: "error"}

_TALKATIVE: Final = {
    "apscheduler": logging.ERROR,  # a run that is skipped is ours to tell, and not at each interval
    "uvicorn": logging.WARNING,
    "docker": logging.WARNING,
    "urllib3": logging.WARNING,
    "asyncio": logging.WARNING,
}
"""Libraries that tell what matters to their own authors, and from which level on they are heard."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
"""What every record carries; anything else came as `extra` and is a field of the line."""

_PLAIN: Final = re.compile(r"[^\s\"=]+")


def configure(level: str, form: str) -> None:
    """Send log lines from `level` on to standard error, in this form and no other; may be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Logfmt())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for name, lowest in _TALKATIVE.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else max(LEVELS[level], lowest))


class _Line(logging.Formatter):
    """What both forms say, in this order."""

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        time = datetime.fromtimestamp(record.created, UTC)
        yield "ts", time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield "level", _LEVEL_NAMES.get(record.levelno, "info")
        yield "logger", record.name
        yield "msg", record.getMessage()
        for name, value in vars(record).items():
            if name not in _STANDARD:
                yield name, value
        if record.exc_info:
            yield "traceback", self.formatException(record.exc_info)


class Json(_Line):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        # of what a terminal obeys, ASCII's own escapes leave out DEL only
        return json.dumps(dict(self._fields(record)), default=str).replace("\x7f", "\\u007f")


class Logfmt(_Line):
    """`key=value` pairs, values in double quotes where they are not plain."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return " ".join(f"{name}={_quoted(value)}" for name, value in self._fields(record))


def _quoted(value: object) -> str:
    text = {True: "true", False: "false", None: ""}[value] if value is None or isinstance(value, bool) else str(value)
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return visible(json.dumps(text, ensure_ascii=False))
