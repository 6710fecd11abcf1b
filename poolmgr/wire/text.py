"""Numbers and lists inside annotations, which tenants and nodes write: bounded, and read without exceptions."""

LONGEST_NUMBER = 18
"""Digits: every number of so many fits 64 bits, and Python refuses to read one of more than 4,300."""


def whole(text: str, otherwise: int = 0) -> int:
    """A number of decimal digits; `otherwise` for anything else, a longer one among it."""
    return int(text) if len(text) <= LONGEST_NUMBER and text.isascii() and text.isdigit() else otherwise


def listed(text: str | None) -> tuple[str, ...]:
    """A comma-separated list, without blanks and empty members."""
    return tuple([part for piece in text.split(",") if (part := piece.strip())]) if text else ()


MOST_LISTED = 1024
"""Members of a list that decisions look at. The longest that anybody here writes has the GPUs that leave: some hundred."""


def lists_too_many(text: str | None) -> bool:
    return text is not None and text.count(",") >= MOST_LISTED
