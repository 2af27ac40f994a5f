"""The journal: structlog, readable on a terminal, one JSON object a line elsewhere."""

import logging
import sys

import structlog

# Without the frames' variables: they hold what people did, and pages of it.
_traceback = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def keep_journal(process: str) -> None:
    """Write this process's log to stderr, each line with the name of the process."""
    terminal = sys.stderr.isatty()
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=True, exception_formatter=structlog.dev.plain_traceback
        )
        if terminal
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            _named(process),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [_traceback]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up each time: whoever runs a command in its own process may put another there.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _named(process: str) -> structlog.types.Processor:
    """Name the process in each line, whichever of its threads speaks."""

    def name(
        logger: structlog.types.WrappedLogger, method: str, line: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        line.setdefault("process", process)
        return line

    return name
