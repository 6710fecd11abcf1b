"""Fixtures of the real parts, for tests/ and e2e/ alike; nothing is started or imported until a test asks."""

import structlog

# structlog's own default draws tracebacks with every local variable, where `rich` is installed: minutes for a fleet.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

pytest_plugins = ["e2e.fixtures", "e2e.node.fixtures", "e2e.hami.report"]

collect_ignore = ["libhook"]  # a suite with settings of its own: `pytest libhook`
