"""Headers and addresses that the page's answers share."""

import hashlib
from functools import cache
from importlib.resources import files

TYPES = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "mark.svg": "image/svg+xml"}
"""All static files there are; anything else is not served."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
NO_STORE = {"Cache-Control": "no-store"}


@cache
def static_file(name: str) -> bytes:
    """One of TYPES."""
    return files("poolmgr.api.ui").joinpath("static", name).read_bytes()


@cache
def static_version() -> str:
    """Of the static files together: part of their address, so that an upgrade is seen at once."""
    return hashlib.sha256(b"".join(static_file(name) for name in TYPES)).hexdigest()[:10]
