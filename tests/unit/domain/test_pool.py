"""Which GPUs a pool's selectors reach."""

from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PoolName


def test_pool_without_selectors_takes_every_gpu() -> None:
    assert Pool(PoolName("any")).takes("NVIDIA A10", {})


def test_model_is_compared_without_case() -> None:
    assert Pool(PoolName("p"), models=("nvidia a10",)).takes("NVIDIA A10", {})
    assert not Pool(PoolName("p"), models=("NVIDIA A100",)).takes("NVIDIA A10", {})


def test_every_node_label_must_match() -> None:
    pool = Pool(PoolName("p"), node_labels=(("zone", "a"), ("gpu", "on")))
    assert pool.takes("NVIDIA A10", {"zone": "a", "gpu": "on"})
    assert not pool.takes("NVIDIA A10", {"zone": "a"})
