"""Headroom for VMs from the forecast: four kinds, each over horizons of its own.

- prefetch: within the time that one move takes, a VM that finds nothing ready waits; such GPUs are moved while
  idle, so the quantile is high;
- ahead: GPUs in use need longer. Where the pool allows eviction, enough nodes are lent to best-effort containers
  only; elsewhere GPUs are closed to new pods early enough to be empty when the rise comes;
- soon: in the morning's rise every GPU that falls free would be taken by a pod at once, and that pod evicted for a VM
  minutes later, the same one up to nine times a day in replays. So a few GPUs are closed until the VM is there;
- keep: giving a GPU back and fetching it again costs two moves and perhaps a drain, so what will probably be
  wanted soon is kept (the ski-rental argument: hold as long as holding is cheaper than moving twice).

How much a GPU held in vain is worth is not a setting. One number, the risk aversion, rises with every
VM that waits longer than it should and falls a little with every one that does not, until the goal is met: full
weeks become careful by themselves and quiet ones lean. Each step halves the accepted chance of a shortage and raises
what may be evicted for a VM that waits.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.occupancy import unbound_vms
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.forecast import BIN_SECONDS, bin_of, record, rise_quantile
from poolmgr.planner.sizing.headroom import SOON_SECONDS, Headroom, wanted_by_vms

SOON_BINS = int(SOON_SECONDS // BIN_SECONDS)
Horizon = tuple[int, float]
"""(bins of five minutes ahead, accepted chance that demand rises further until then), at risk aversion 0."""


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """The further ahead, the longer a GPU held in vain would idle, and so the more chance is accepted."""

    prefetch: tuple[Horizon, ...] = ((6, 0.01),)
    ahead: tuple[Horizon, ...] = (
        (3, 0.01),
        (6, 0.03),
        (12, 0.1),
        (24, 0.3),
        (36, 0.6),
        (48, 0.85),
        (72, 1.3),
        (96, 4.0),
    )
    keep: tuple[Horizon, ...] = ((6, 0.01), (12, 0.03), (24, 0.2))
    soon_chance: float = 0.3
    """As for the others, within `SOON_SECONDS`; 1 closes nothing."""
    band: float = 0.01
    """Of the group's GPUs, how many more than are prefetched may stay ready without being given back: steady
    tenants who come and go a few a day then move nothing."""
    band_from_gpus: int = 0
    """Groups with fewer GPUs keep no band: of two GPUs, one that is kept for nobody is half of them."""
    drain_share: float = 0.8
    """Of the nodes, how many may be draining at once."""
    goal: float = 0.975
    """Share of VMs that should not wait `late_seconds`."""
    late_seconds: float = 60.0
    """A VM that has waited so long without a GPU counts as late."""
    step: float = 0.02
    """Aversion changes by this × (late - accepted share) with each VM: by about one step a day where a thousand VMs
    are started and one in ten is late."""
    aversion_at_start: float = 2.0
    aversion_least: float = -2.0
    aversion_most: float = 5.0
    work_at_once: float = 3_600.0
    """GPU-seconds of best-effort work that eviction may throw away for a VM that finds nothing free, at risk aversion 0: an
    hour of one GPU, so that most VMs have one within the time of one move. Doubles with each step of risk aversion."""
    work_per_second_waited: float = 240.0
    """And for each second it has waited, at risk aversion 0:
    a person's quarter of a minute is worth an hour of it. Doubles twice with each step of risk aversion."""

    def band_of(self, gpus: int) -> int:
        """GPUs of a group of `gpus` that may stay ready for nobody in particular."""
        return ceil(self.band * gpus) if gpus >= self.band_from_gpus else 0

    def price(self, aversion: float) -> tuple[float, float]:
        """Best-effort work, in GPU-seconds, that eviction may throw away for a VM at once, and for each second waited."""
        return self.work_at_once * 2.0**aversion, self.work_per_second_waited * 4.0**aversion


class ForecastSizer:
    """Remembers the demand of each group and how VMs fared; sizes the headroom anew every five minutes."""

    def __init__(self, settings: ForecastSettings | None = None) -> None:
        self._settings = settings or ForecastSettings()

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        known: dict[str, Any] = learned.get("groups", {}) if isinstance(learned, dict) else {}
        now_bin = bin_of(snapshot.taken_at)
        wanted = wanted_by_vms(snapshot, inventory)
        found: dict[GroupKey, Headroom] = {}
        learned_now: dict[str, Any] = {}
        for key, group in inventory.groups.items():
            name = "/".join(key)
            entry = known.get(name, {})
            history = record(entry.get("history"), now_bin, wanted.get(key, 0))
            aversion = self._risk_aversion(snapshot, inventory, key, entry.get("risk_aversion"))
            if entry.get("bin") == now_bin and "ahead" in entry:
                ahead = entry["ahead"]
            else:
                ahead = self._ahead(history, now_bin, aversion["level"])
            learned_now[name] = {
                "history": history,
                "bin": now_bin,
                "ahead": ahead,
                "risk_aversion": aversion,
            }
            found[key] = self._headroom(group, ahead, aversion["level"])
        return found, {"groups": learned_now}

    def _risk_aversion(
        self, snapshot: ClusterSnapshot, inventory: Inventory, key: GroupKey, known: Any
    ) -> dict[str, Any]:
        """{"level", "until", "late"}: the aversion, when VMs were last counted, who is late already."""
        s, now = self._settings, snapshot.taken_at
        if known is None:
            return {"level": s.aversion_at_start, "until": now, "late": []}
        counted, until = set(known["late"]), known["until"]
        created = [vm for vm in snapshot.vms if until < vm.created_at <= now]
        came = sum(_wants(vm.claims, inventory, key) for vm in created)
        late = [
            vm.uid
            for vm in unbound_vms(snapshot.vms)
            if now - (vm.waiting_since or vm.created_at) > s.late_seconds
            and _wants(vm.claims, inventory, key)
        ]
        newly_late = sum(uid not in counted for uid in late)
        level = known["level"] + s.step * (newly_late - (1.0 - s.goal) * came)
        return {"level": min(max(level, s.aversion_least), s.aversion_most), "until": now, "late": late}

    def _ahead(self, history: dict[str, Any], now_bin: int, aversion: float) -> list[list[int]]:
        """Rises to be ready for, by horizon, of: prefetch, ahead, keep, soon."""
        s = self._settings
        soon = ((SOON_BINS, s.soon_chance),)
        return [
            [
                ceil(rise_quantile(history, now_bin, bins, 1.0 - min(1.0, chance / 2.0**aversion)) - 1e-9)
                for bins, chance in horizons
            ]
            for horizons in (s.prefetch, s.ahead, s.keep, soon)
        ]

    def _headroom(self, group: GpuGroup, rises: list[list[int]], aversion: float) -> Headroom:
        s, least = self._settings, group.pool.passthrough.headroom
        prefetch = max([least, *rises[0]])
        keep = max([prefetch + s.band_of(group.gpus), *rises[2]])
        lends = group.pool.eviction is EvictionRule.BEST_EFFORT
        looks = tuple(
            (bins * BIN_SECONDS, max(prefetch, rise))
            for (bins, _), rise in zip(s.ahead, rises[1], strict=True)
            if s.drain_share > 0
        )
        at_once, per_second = s.price(aversion)
        message = f"judging by earlier days, up to {prefetch} more GPU(s) may be needed within minutes and {keep} within hours"
        return Headroom(
            keep,
            prefetch,
            Reason.HEADROOM,
            message,
            ahead=() if lends else looks,
            lend=looks if lends else (),
            soon=max(rises[3]) if lends and looks else 0,
            drain_share=s.drain_share,
            work_at_once=at_once,
            work_per_second_waited=per_second,
        )


def _wants(claims: tuple[Any, ...], inventory: Inventory, key: GroupKey) -> bool:
    return any(key in inventory.groups_by_resource.get(claim.resource_name, ()) for claim in claims)
