"""An agent is heard while its heartbeat changes, by the clock of who listens alone."""

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import BEAT_SECONDS, DARK_SECONDS, SILENT_SECONDS, AgentSign, Heartbeats
from poolmgr.domain.reasons import Reason

N1, N2 = NodeName("n1"), NodeName("n2")
UNIX = 1_800_000_000.0


class Judge:
    """Looks each second; agents beat in between."""

    def __init__(self) -> None:
        self.beats, self.at, self.count = Heartbeats(), 0.0, 0

    def hear(self, node: NodeName = N1, value: str = "", claimed: float = 0.0) -> bool:
        self.count += 1
        return self.beats.beat(node, value or str(self.count), self.at, UNIX + self.at, claimed=claimed)

    def sign(self, node: NodeName = N1) -> AgentSign:
        return self.beats.judge((N1, N2), self.at)[node]

    def wait(self, seconds: float) -> AgentSign:
        end = self.at + seconds
        while self.at < end:
            self.at = min(end, self.at + 1.0)
            self.sign()
        return self.sign()


def heard() -> Judge:
    judge = Judge()
    judge.hear()
    judge.hear()
    assert judge.sign().heard
    return judge


def test_one_look_tells_nothing_and_a_change_tells_all() -> None:
    judge = Judge()
    judge.hear(value="2031-01-01")
    assert not judge.sign().heard and not judge.sign().silent
    assert "has not heard from the agent of n1 yet" in judge.sign().verdict(N1).message
    judge.wait(BEAT_SECONDS)
    assert judge.hear(value="1999-01-01"), "a clock that is years off, and went back, is as good as any"
    assert judge.sign().heard and judge.sign().verdict(N1)


def test_a_minute_without_a_change_is_silence_and_says_since_when() -> None:
    judge = heard()
    assert judge.wait(SILENT_SECONDS).heard
    silent = judge.wait(1.0)
    assert (silent.heard, silent.silent, silent.since) == (False, True, UNIX)
    said = silent.verdict(N1)
    assert said.reason is Reason.AGENT_SILENT
    assert "last heard from at 2027-01-15 08:00 UTC" in said.message and "may be out of date" in said.message
    assert judge.wait(500) is silent, "the same value for as long as nothing changes"


def test_an_agent_that_is_heard_again_is_believed_at_once() -> None:
    judge = heard()
    judge.wait(300)
    assert judge.hear()
    assert judge.sign() == AgentSign(since=UNIX + 300)
    assert not judge.hear(), "and that is news only once"


def test_the_same_text_again_is_no_sign_of_life() -> None:
    judge = heard()
    for _ in range(5):
        judge.wait(BEAT_SECONDS)
        judge.hear(value="2")
    assert judge.sign().silent


def test_a_node_without_a_heartbeat_is_silent_after_its_minute() -> None:
    judge = heard()
    assert not judge.sign(N2).silent
    judge.wait(SILENT_SECONDS + 1)
    assert judge.sign(N2).silent
    assert "its release sends no heartbeat" in judge.sign(N2).verdict(N2).message
    judge.hear(N2)
    assert judge.sign(N2).heard, "one that appears is a change"


def test_who_could_hear_nobody_silences_nobody() -> None:
    judge = heard()
    judge.wait(30)
    judge.at += 10 * DARK_SECONDS
    assert judge.sign().heard, "the API server was away, or the judge stood still"
    assert judge.wait(SILENT_SECONDS - 30).heard
    assert judge.wait(1).silent


def test_who_was_heard_is_not_once_its_lease_is_deleted_and_its_minute_runs_on() -> None:
    judge = heard()
    judge.wait(SILENT_SECONDS - 10)
    judge.beats.gone(N1)
    unheard = judge.sign()
    assert (unheard.heard, unheard.silent, unheard.since) == (False, False, UNIX)
    said = unheard.verdict(N1).message
    assert "the Lease of the agent of n1 was deleted; it was last heard from at 2027-01-15 08:00 UTC" in said
    assert not judge.wait(10).silent
    assert judge.wait(1).silent, "counted from when it was last heard, not from when the Lease was deleted"


def test_a_lease_that_is_deleted_does_not_begin_a_silence_anew() -> None:
    judge = heard()
    silent = judge.wait(300)
    judge.beats.gone(N1)
    assert judge.sign() is silent
    assert judge.wait(300) is silent, "and says since when as before"


def test_a_deleted_lease_that_comes_back_with_the_same_text_is_no_sign_of_life() -> None:
    judge = heard()
    judge.wait(300)
    judge.beats.gone(N1)
    assert not judge.hear(value="2") and judge.sign().silent
    assert judge.hear() and judge.sign().heard, "that its agent renewed it is one"


def test_a_node_that_is_gone_with_its_lease_is_forgotten() -> None:
    judge = heard()
    judge.wait(300)
    judge.beats.gone(N1)
    judge.beats.judge([N2], judge.at)
    assert judge.sign() == AgentSign(heard=False), "one that is back under its name begins as any new one"


def test_where_nobody_heard_it_the_agents_own_word_is_shown() -> None:
    judge = Judge()
    judge.hear(claimed=UNIX - 86_400)
    assert judge.wait(SILENT_SECONDS + 1).since == UNIX - 86_400
