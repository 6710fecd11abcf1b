"""How the dashboard puts numbers and instants into words. Pure."""

from datetime import UTC, datetime

from markupsafe import Markup

from poolmgr.domain.modes import Mode

SIDE = {Mode.PASSTHROUGH: "VMs", Mode.SHARED: "containers", None: "no driver"}
"""Who a GPU in this mode is for: the two words that the page uses."""


LENT = "Only best-effort containers may start here. Running ones stay."
"""Of a node with the label `BEST_EFFORT_ONLY` of which the newest plan does not say why."""


def plural(number: int, one: str, many: str = "") -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2 h 05 min`, `3 d 4 h`; never negative."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def hour_and_minute(at: float) -> str:
    """In UTC, as plain text: for a terminal."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M}"


def clock_time(at: float) -> Markup:
    """Hour and minute. The browser shows its own zone's instead, by `data-as`."""
    return _time(datetime.fromtimestamp(at, UTC), "clock", hour_and_minute(at))


def day_and_time(at: float) -> Markup:
    """With the day and the zone, likewise."""
    moment = datetime.fromtimestamp(at, UTC)
    return _time(moment, "moment", f"{moment:%a} {moment.day} {moment:%b} {moment.year}, {moment:%H:%M} UTC")


def _time(moment: datetime, style: str, text: str) -> Markup:
    return Markup('<time datetime="{}" data-as="{}">{}</time>').format(
        f"{moment:%Y-%m-%dT%H:%M:%SZ}", style, text
    )


def sentence(text: str) -> str:
    """First letter up, full stop at the end: reasons come as clauses."""
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
