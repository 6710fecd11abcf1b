"""What is refused before anything of a request is parsed, asked or kept."""

import pytest

from poolmgr.api.request_limits import LOOPBACK_NAMES, MAX_BODY_BYTES, hosts_served
from tests.unit.api.stand_ins import Records, Steering, client

REBALANCE = "/api/v1/pools/desktops:rebalance"


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("127.0.0.1", LOOPBACK_NAMES),
        ("::1", LOOPBACK_NAMES),
        ("0.0.0.0", frozenset()),
        ("10.0.0.7", frozenset()),
    ],
)
def test_a_server_on_loopback_answers_to_its_own_names_only(address: str, names: frozenset[str]) -> None:
    assert hosts_served(address) == names


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
async def test_loopback_by_name_and_number_is_served(host: str) -> None:
    async with client(hosts=LOOPBACK_NAMES) as http:
        assert (await http.get("/healthz", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::1", "[evil]:80"]
)
async def test_another_name_is_refused_and_moves_nothing(host: str) -> None:
    """A page whose name resolves to 127.0.0.1 speaks with the hands of the browser that shows it."""
    control, records = Steering(), Records()
    async with client(control, records, hosts=LOOPBACK_NAMES) as http:
        answer = await http.post(REBALANCE, json={"dryRun": False}, headers={"host": host})
        assert (await http.get("/", headers={"host": host})).status_code == 421
    assert (answer.status_code, answer.json()["code"]) == (421, "HostNotServed")
    assert (control.asked, records.calls) == ([], [])


@pytest.mark.parametrize("url", ["/%00", "/api/v1/plans?pool=a%00b", "/api/v1/plans?%00=1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_nul_character_reaches_no_database(method: str, url: str) -> None:
    records = Records()
    async with client(records=records) as http:
        answer = await http.request(method, url)
    assert (answer.status_code, answer.json()["code"]) == (422, "InvalidRequest")
    assert (records.calls, records.seen) == ([], {})


@pytest.mark.parametrize("token", ["", "secret"])
async def test_a_long_body_is_refused_unread(token: str) -> None:
    async with client(token=token) as http:
        answer = await http.post(REBALANCE, content=b" " * (MAX_BODY_BYTES + 1))
        assert (answer.status_code, answer.json()["code"]) == (413, "RequestTooLarge")


async def test_a_long_body_without_a_length_is_given_up_on_the_way() -> None:
    sent = 0

    async def body():  # type: ignore[no-untyped-def]
        nonlocal sent
        while sent < 100 * MAX_BODY_BYTES:
            sent += 1024
            yield b" " * 1024

    async with client() as http:
        assert (await http.post(REBALANCE, content=body())).status_code == 413
    assert sent <= 2 * MAX_BODY_BYTES


async def test_a_body_that_is_no_text_is_told_so() -> None:
    async with client() as http:
        answer = await http.post(
            REBALANCE, content=b"\xff\xfe{", headers={"content-type": "application/json"}
        )
    assert answer.status_code == 422
    assert "there is nothing at" not in answer.text


@pytest.mark.parametrize("url", ["/", "/healthz", "/api/v1/pools", "/metrics"])
async def test_head_is_get_without_the_body(url: str) -> None:
    async with client() as http:
        got, headed = await http.get(url), await http.head(url)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]


async def test_head_of_an_event_stream_ends() -> None:
    async with client() as http:
        assert (await http.head("/ui/events")).content == b""


async def test_what_is_asked_of_no_operation_is_not_kept() -> None:
    records = Records()
    async with client(records=records) as http:
        assert (await http.post("/no/such/place")).status_code == 404
    assert records.calls == []
