"""Headroom GPUs for VMs from the forecast: four kinds, each over horizons of its own.

- fetch: within the time that one move takes, a VM that finds nothing ready waits; such GPUs are moved while
  idle, so the quantile is high;
- ahead: GPUs in use need longer. Where the pool allows eviction, enough nodes are lent to best-effort containers
  only; elsewhere GPUs are closed to new pods early enough to be empty when the rise comes;
- soon: in the morning's rise every GPU that falls free would be taken by a pod at once, and that pod evicted for a VM
  minutes later, the same one up to nine times a day in replays. So a few GPUs are closed until the VM is there;
- keep: giving a GPU back and fetching it again costs two moves and perhaps a drain, so what will probably be
  wanted soon is kept (the ski-rental argument: hold as long as holding is cheaper than moving twice).

How much a GPU held in vain is worth is not a setting. One number, the care taken of VMs, rises with every VM
that waits longer than it should and falls a little with every one that does not, until the goal is met: full
weeks become careful by themselves and quiet ones lean. Care halves the accepted chance of a shortage with each
step, and raises what may be evicted for a VM that waits.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.forecast import BIN_SECONDS, bin_of, record, rise_quantile
from poolmgr.planner.sizing.headroom import Headroom, wanted_by_vms
from poolmgr.planner.stages.cordon_ahead import SOON_SECONDS

SOON_BINS = int(SOON_SECONDS // BIN_SECONDS)
Horizon = tuple[int, float]
"""(bins of five minutes ahead, accepted chance that demand rises further until then), at care 0."""


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """The further ahead, the longer a GPU held in vain would idle, and so the more chance is accepted."""

    fetch: tuple[Horizon, ...] = ((6, 0.01),)
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
    """As for the others, within `drain.SOON_SECONDS`; 1 closes nothing."""
    band: float = 0.01
    """Of the shelf's GPUs, how many more than are fetched may stay ready without being given back: steady
    tenants who come and go a few a day then move nothing."""
    band_from_gpus: int = 0
    """Shelves with fewer GPUs keep no band: of two GPUs, one that is kept for nobody is half of them."""
    drain_share: float = 0.8
    """Of the nodes, how many may be draining at once."""
    goal: float = 0.975
    """Share of VMs that should not wait `late_seconds`."""
    late_seconds: float = 60.0
    """A VM that has waited so long without a GPU counts as late."""
    step: float = 0.02
    """Care changes by this × (late - accepted share) with each VM: by about one step a day where a thousand VMs
    are started and one in ten is late."""
    care_at_start: float = 2.0
    care_least: float = -2.0
    care_most: float = 5.0
    work_at_once: float = 3_600.0
    """GPU-seconds of best-effort work that eviction may throw away for a VM that finds nothing free, at care 0: an
    hour of one GPU, so that most VMs have one within the time of one move. Doubles with each step of care."""
    work_per_second_waited: float = 240.0
    """And for each second it has waited, at care 0:
    a person's quarter of a minute is worth an hour of it. Doubles twice with each step of care."""

    def band_of(self, gpus: int) -> int:
        """GPUs of a shelf of `gpus` that may stay ready for nobody in particular."""
        return ceil(self.band * gpus) if gpus >= self.band_from_gpus else 0

    def price(self, care: float) -> tuple[float, float]:
        """Best-effort work, in GPU-seconds, that eviction may throw away for a VM at once, and for each second waited."""
        return self.work_at_once * 2.0**care, self.work_per_second_waited * 4.0**care


class ForecastSizer:
    """Remembers the demand of each shelf and how VMs fared; sizes the spare anew every five minutes."""

    def __init__(self, settings: ForecastSettings | None = None) -> None:
        self._settings = settings or ForecastSettings()

    def size(
        self, snapshot: ClusterSnapshot, stock: Inventory, memory: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        known: dict[str, Any] = memory.get("shelves", {}) if isinstance(memory, dict) else {}
        now_bin = bin_of(snapshot.taken_at)
        wanted = wanted_by_vms(snapshot, stock)
        spares: dict[GroupKey, Headroom] = {}
        remembered: dict[str, Any] = {}
        for key, shelf in stock.shelves.items():
            name = "/".join(key)
            entry = known.get(name, {})
            ledger = record(entry.get("ledger"), now_bin, wanted.get(key, 0))
            care = self._care(snapshot, stock, key, entry.get("care"))
            if entry.get("bin") == now_bin and "ahead" in entry:
                ahead = entry["ahead"]
            else:
                ahead = self._ahead(ledger, now_bin, care["level"])
            remembered[name] = {"ledger": ledger, "bin": now_bin, "ahead": ahead, "care": care}
            spares[key] = self._spare(shelf, ahead, care["level"])
        return spares, {"shelves": remembered}

    def _care(self, snapshot: ClusterSnapshot, stock: Inventory, key: GroupKey, known: Any) -> dict[str, Any]:
        """{"level", "until", "late"}: the care, when VMs were last counted, who is late already."""
        s, now = self._settings, snapshot.taken_at
        if known is None:
            return {"level": s.care_at_start, "until": now, "late": []}
        counted, late = set(known["late"]), []
        came = newly_late = 0
        for vm in snapshot.vms:
            came += known["until"] < vm.created_at <= now and _wants(vm.claims, stock, key)
            waited = now - (vm.waiting_since or vm.created_at)
            if vm.node is None and waited > s.late_seconds and _wants(vm.claims, stock, key):
                late.append(vm.uid)
                newly_late += vm.uid not in counted
        level = known["level"] + s.step * (newly_late - (1.0 - s.goal) * came)
        return {"level": min(max(level, s.care_least), s.care_most), "until": now, "late": late}

    def _ahead(self, ledger: dict[str, Any], now_bin: int, care: float) -> list[list[int]]:
        """Rises to be ready for, by horizon, of: fetch, ahead, keep, soon."""
        s = self._settings
        soon = ((SOON_BINS, s.soon_chance),)
        return [
            [
                ceil(rise_quantile(ledger, now_bin, bins, 1.0 - min(1.0, chance / 2.0**care)) - 1e-9)
                for bins, chance in horizons
            ]
            for horizons in (s.fetch, s.ahead, s.keep, soon)
        ]

    def _spare(self, shelf: GpuGroup, rises: list[list[int]], care: float) -> Headroom:
        s, headroom = self._settings, shelf.pool.passthrough.headroom
        fetch = max([headroom, *rises[0]])
        keep = max([fetch + s.band_of(shelf.gpus), *rises[2]])
        lends = shelf.pool.eviction is EvictionRule.BEST_EFFORT
        looks = tuple(
            (bins * BIN_SECONDS, max(fetch, rise))
            for (bins, _), rise in zip(s.ahead, rises[1], strict=True)
            if s.drain_share > 0
        )
        at_once, per_second = s.price(care)
        message = f"up to {fetch} more GPU(s) may be wanted within minutes and {keep} within hours, as on earlier days"
        return Headroom(
            keep,
            fetch,
            Reason.HEADROOM,
            message,
            ahead=() if lends else looks,
            lend=looks if lends else (),
            soon=max(rises[3]) if lends and looks else 0,
            drain_share=s.drain_share,
            work_at_once=at_once,
            work_per_second_waited=per_second,
        )


def _wants(claims: tuple[Any, ...], stock: Inventory, key: GroupKey) -> bool:
    return bool(claims) and key in stock.groups_by_resource.get(claims[0].resource_name, ())
