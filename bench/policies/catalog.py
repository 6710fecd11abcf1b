"""The policies that can be asked for by name: `poolmgr` and the baselines B0 to B11."""

from bench.policies.baselines import Batched, HourlyAdmin, Lyra, PerClaim, Policy, StaticSplit, Threshold
from bench.policies.lcp import LcpSizer
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import EvictionRule, Granularity
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.forecast_sizer import ForecastSettings, ForecastSizer
from poolmgr.planner.sizing.learning import LearningSizer

IN_FLIGHT = 0.5
"""Budget of the planner's own policies. GPUs that are closed to new pods and still working count as moving; of
those that really change driver there are a few at once."""

FETCH_ONLY = ForecastSettings(drain_share=0.0)

_ALL = (
    Policy(
        "poolmgr",
        lambda: PoolPlanner(LearningSizer(), explain=False),
        eviction=EvictionRule.BEST_EFFORT,
        in_flight_share=IN_FLIGHT,
        drain_timeout_seconds=900,
        forecasts=True,
        stops_idle=True,
        note="forecast, drains ahead, evicts only for a VM that waits",
    ),
    Policy(
        "poolmgr-no-stop",
        lambda: PoolPlanner(LearningSizer(), explain=False),
        eviction=EvictionRule.BEST_EFFORT,
        in_flight_share=IN_FLIGHT,
        drain_timeout_seconds=900,
        forecasts=True,
        note="the same, forgotten VMs left alone (idleVM.action: Ignore)",
    ),
    Policy(
        "B11",
        lambda: PoolPlanner(ForecastSizer(FETCH_ONLY), name="mpc-quantile", explain=False),
        eviction=EvictionRule.BEST_EFFORT,
        in_flight_share=IN_FLIGHT,
        forecasts=True,
        note="the same forecast, without draining ahead",
    ),
    Policy("B0-vm", StaticSplit, 1.0, note="every GPU for VMs"),
    Policy("B0-shared", StaticSplit, 0.0, note="every GPU shared"),
    Policy("B2", HourlyAdmin, note="whole nodes, relabelled at each hour to 1.2 x busy, drain only"),
    Policy(
        "B3",
        lambda: PoolPlanner(name="gpu-operator", explain=False),
        granularity=Granularity.NODE,
        note="one mode for a node, empty nodes only",
    ),
    Policy("B4", lambda: PerClaim("dra"), cooldown_seconds=0, on_release=True, note="per claim, no eviction"),
    Policy(
        "B5",
        lambda: PerClaim("dra-evict"),
        cooldown_seconds=0,
        eviction=EvictionRule.BEST_EFFORT,
        on_release=True,
        note="per claim, best-effort pods evicted",
    ),
    Policy("B6", Threshold, cooldown_seconds=0, note="pending 30 s, idle 10 min"),
    Policy(
        "B7",
        lambda: Batched(PoolPlanner(name="nos", explain=False)),
        cooldown_seconds=0,
        note="batches of what is lacking",
    ),
    Policy(
        "B8",
        lambda: PoolPlanner(name="fgd", explain=False),
        eviction=EvictionRule.BEST_EFFORT,
        placement="fgd",
        note="what waits is served at once, pods are placed by least fragmentation",
    ),
    Policy(
        "B9",
        Lyra,
        eviction=EvictionRule.BEST_EFFORT,
        cooldown_seconds=0,
        note="loan at once, reclaim least preempted work",
    ),
    Policy(
        "B10",
        lambda: PoolPlanner(LcpSizer(), name="lcp", explain=False),
        eviction=EvictionRule.BEST_EFFORT,
        cooldown_seconds=0,
        drain_timeout_seconds=1_800,
        note="lazy capacity provisioning",
    ),
)
POLICIES = {policy.name: policy for policy in _ALL}


def static_policy(name: str, share: float) -> Policy:
    return Policy(name, StaticSplit, share, note=f"{share:.0%} for VMs, fixed")


def policy_of(name: str) -> Policy:
    """The policy of that name. Raises Rejected with the names there are."""
    found = POLICIES.get(name)
    if found is None:
        raise Rejected(
            Reason.NOT_FOUND, f"there is no policy {name!r}; choose from {', '.join(POLICIES)}, B1"
        )
    return found
