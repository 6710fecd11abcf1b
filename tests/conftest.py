"""What every test shares: a line at the end for each sweep, saying how many points it walked."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "points":
                test = report.nodeid.rsplit("::", 1)[-1]
                terminalreporter.write_line(f"{value}  ({test})")
