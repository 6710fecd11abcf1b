"""Fixtures of the real parts, for tests/ and e2e/ alike; nothing is started or imported until a test asks."""

import sys

import structlog

# structlog's own default draws tracebacks with every local variable, where `rich` is installed: minutes for a fleet. And it
# writes to stdout, where what a test's own manager logs would mix with what a command prints.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ],
    logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
)

pytest_plugins = ["e2e.fixtures", "e2e.node.fixtures", "e2e.hami.report"]

collect_ignore = ["libhook"]  # a suite with settings of its own: `pytest libhook`
