"""Logs on stderr, a line an event: text for people, JSON for machines."""

import logging
import logging.config
from datetime import UTC, datetime

import msgspec

from aphrodite.domain.config import LogFormat, LogLevel

_FIELDS = ("request_id", "status", "duration_s")  # what our own events carry besides their message


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Send every logger's events to stderr; libraries' only from warnings on."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"chosen": {"()": JsonFormatter if log_format == "json" else TextFormatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {"aphrodite": {"level": level.upper()}},
        }
    )


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO message [request id]`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        request_id = getattr(record, "request_id", None)
        return super().formatMessage(record) + (f" [{request_id}]" if request_id else "")


class JsonFormatter(logging.Formatter):
    """One JSON object with time, level, logger, message, and what the event carries."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        event |= getattr(record, "note", {})
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event).decode()
