"""What the monitor writes into containers' regions every five seconds: who is held back, whose limit is in force."""

from collections.abc import Collection

from e2e.hami.standin.regions import Region


def observe(regions: Collection[Region]) -> None:
    """Priority 0 is the highest. A container stands still while one of higher priority works on its GPU; its
    compute limit is in force while another of the same or a higher priority works there."""
    active: dict[str, dict[int, int]] = {}
    for region in regions:
        recent = region.recent_kernel
        if recent <= 0:
            continue
        region.recent_kernel = recent - 1
        if recent > 1 and region.priority >= 0:
            for uuid in region.uuids():
                by_priority = active.setdefault(uuid, {})
                by_priority[region.priority] = by_priority.get(region.priority, 0) + 1
    for region in regions:
        on_its_gpus = [active.get(uuid, {}) for uuid in region.uuids()]
        higher = any(
            count for gpu in on_its_gpus for priority, count in gpu.items() if priority < region.priority
        )
        beside = any(gpu.get(region.priority, 0) > 1 for gpu in on_its_gpus)
        held_back = region.recent_kernel < 0
        if higher != held_back:
            region.recent_kernel = -1 if higher else 0
        switch = int(higher or beside)
        if region.utilization_switch != switch:
            region.utilization_switch = switch
