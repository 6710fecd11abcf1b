"""Small pieces of sentences that users read."""

from collections.abc import Iterable


def listing(words: Iterable[str], limit: int = 6) -> str:
    """`a, b and c`; after `limit` words, how many more there are."""
    given = list(words)
    if len(given) > limit:
        return f"{', '.join(given[:limit])} and {len(given) - limit} more"
    if len(given) < 2:
        return "".join(given)
    return f"{', '.join(given[:-1])} and {given[-1]}"


def gpus_word(number: int) -> str:
    return "GPU" if number == 1 else "GPUs"
