"""How poolmgr's servers are set."""

from typing import Any

from poolmgr.cli.serving import configuration


async def test_no_caller_says_from_where_it_calls() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"])

    served = configuration(app)
    served.load()
    headers = [(b"x-forwarded-for", b"203.0.113.66<script>"), (b"x-forwarded-proto", b"https")]
    scope: Any = {"type": "http", "scheme": "http", "client": ("127.0.0.1", 4711), "headers": headers}
    await served.loaded_app(scope, None, None)
    assert seen == [("127.0.0.1", 4711)]
