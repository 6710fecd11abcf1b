"""Fixtures of the real parts, for tests/ and e2e/ alike; nothing is started or imported until a test asks."""

pytest_plugins = ["e2e.fixtures", "e2e.node.fixtures", "e2e.hami.report"]

collect_ignore = ["libhook"]  # a suite with settings of its own: `pytest libhook`
