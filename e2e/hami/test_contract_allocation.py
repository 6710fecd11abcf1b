"""The contract's allocation: which pod the plugin allocates, and what its containers get."""

from collections.abc import Iterator

import pytest

from e2e.controlplane.hami import Hami
from e2e.hami.contract import shows
from e2e.hami.kubelet import Refused
from e2e.hami.lab import ask, container
from e2e.hami.plugin_lab import PluginLab, given, plugin_lab

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ALLOCATED, TO_ALLOCATE = "hami.io/vgpu-devices-allocated", "hami.io/vgpu-devices-to-allocate"


@pytest.fixture
def plugin(standing: Hami) -> Iterator[PluginLab]:
    """A node with GPUs a and b, the plugin running."""
    with plugin_lab(standing) as it:
        it.show("a", "b")
        it.run()
        yield it


@shows(120, 125)
def test_the_locks_pod_gets_the_gpus_of_its_assignment(plugin: PluginLab) -> None:
    plugin.pending("other", plugin.share("a") + ";", lock=False)
    plugin.pending("one", plugin.share("b") + ";")
    (answer,) = plugin.kubelet.allocate(plugin.ids("a"))
    environment, _ = given(answer)
    assert environment["NVIDIA_VISIBLE_DEVICES"] == plugin.uuid("b")
    annotations = plugin.lab.annotations_of("one")
    assert annotations[ALLOCATED] == plugin.share("b") + ";"
    assert annotations[TO_ALLOCATE].strip(";") == ""
    assert (plugin.phase("one"), plugin.phase("other")) == ("success", "allocating")
    assert not plugin.locked()


@shows(121)
def test_without_a_lock_it_is_the_pod_that_is_allocating(plugin: PluginLab) -> None:
    plugin.lab.pod("no-gpu", container(), nodeName=plugin.node)
    plugin.pending("one", plugin.share("b") + ";", lock=False)
    plugin.kubelet.allocate(plugin.ids("a"))
    assert plugin.phase("one") == "success"


@shows(122)
def test_without_a_pod_the_kubelet_is_refused(plugin: PluginLab) -> None:
    with pytest.raises(Refused, match=f"no binding pod found on node {plugin.node}"):
        plugin.kubelet.allocate(plugin.ids("a"))


@shows(123, 124)
def test_the_container_gets_limits_and_mounts(standing: Hami, release: str) -> None:
    with plugin_lab(standing) as plugin:
        plugin.show("a", "b")
        plugin.configure(deviceMemoryScaling=2)
        (plugin.vgpu / f"libvgpu.so.v{release}").touch()
        plugin.run()
        shares = plugin.share("b", 3000, 30) + plugin.share("a", 2000, 20)
        plugin.pending("one", shares + ";", container("work", ask(2, gpumem=3000)))
        (answer,) = plugin.kubelet.allocate(plugin.ids("a", 0, 1))
        environment, mounts = given(answer)
        cache = environment.pop("CUDA_DEVICE_MEMORY_SHARED_CACHE")
        assert cache.startswith("/usr/local/vgpu/")
        assert cache.endswith(".cache")
        assert environment == {
            "NVIDIA_VISIBLE_DEVICES": f"{plugin.uuid('b')},{plugin.uuid('a')}",
            "CUDA_DEVICE_MEMORY_LIMIT_0": "3000m",
            "CUDA_DEVICE_MEMORY_LIMIT_1": "2000m",
            "CUDA_DEVICE_SM_LIMIT": "30",
            "CUDA_OVERSUBSCRIBE": "true",
            "LIBCUDA_LOG_LEVEL": "1",
        }
        uid = plugin.lab.get_pod("one")["metadata"]["uid"]
        assert mounts == {
            "/usr/local/vgpu/libvgpu.so": (f"/usr/local/vgpu/libvgpu.so.v{release}", True),
            "/usr/local/vgpu": (f"/usr/local/vgpu/containers/{uid}_work", False),
            "/tmp/vgpulock": ("/tmp/vgpulock", False),
            "/etc/ld.so.preload": ("/usr/local/vgpu/ld.so.preload", True),
        }
        assert (plugin.vgpu / "containers" / f"{uid}_work").is_dir()
        opted_out = [{"name": "CUDA_DISABLE_CONTROL", "value": "true"}]
        plugin.pending("two", plugin.share("a") + ";", container("work", ask(1), env=opted_out))
        (answer,) = plugin.kubelet.allocate(plugin.ids("a"))
        assert "/etc/ld.so.preload" not in given(answer)[1]
        # What libhook stands on: a link that leads nowhere in the plugin's container hides the name with the version,
        # and a folder `license` is mounted read-only.
        versioned = plugin.vgpu / f"libvgpu.so.v{release}"
        versioned.unlink()
        versioned.symlink_to("/nowhere/libhook.so")
        (plugin.vgpu / "license").mkdir()
        plugin.pending("three", plugin.share("a") + ";", container("work", ask(1)))
        (answer,) = plugin.kubelet.allocate(plugin.ids("a"))
        mounts = given(answer)[1]
        assert mounts["/usr/local/vgpu/libvgpu.so"] == ("/usr/local/vgpu/libvgpu.so", True)
        assert mounts["/tmp/license"] == ("/usr/local/vgpu/license", True)
        assert mounts["/usr/bin/vgpuvalidator"] == ("/usr/local/vgpu/vgpuvalidator", True)


@shows(126)
def test_a_wrong_number_of_devices_fails_the_pod(plugin: PluginLab) -> None:
    plugin.pending("one", plugin.share("a") + ";")
    with pytest.raises(Refused, match="device number not matched"):
        plugin.kubelet.allocate(plugin.ids("a", 0, 1))
    assert plugin.phase("one") == "failed"
    assert not plugin.locked()


@shows(127)
def test_containers_are_allocated_one_after_the_other(plugin: PluginLab) -> None:
    first, second = container("first", ask(1, gpumem=1000)), container("second", ask(1, gpumem=2000))
    plugin.pending("one", f"{plugin.share('a', 1000)};{plugin.share('b', 2000)};", first, second)
    (answer,) = plugin.kubelet.allocate(plugin.ids("a"))
    assert given(answer)[0]["CUDA_DEVICE_MEMORY_LIMIT_0"] == "1000m"
    assert (plugin.phase("one"), plugin.locked()) == ("allocating", True)
    assert plugin.share("b", 2000) in plugin.lab.annotations_of("one")[TO_ALLOCATE]
    (answer,) = plugin.kubelet.allocate(plugin.ids("a", 1))
    assert given(answer)[0]["CUDA_DEVICE_MEMORY_LIMIT_0"] == "2000m"
    assert (plugin.phase("one"), plugin.locked()) == ("success", False)


@shows(128)
def test_2_10_would_like_the_assigned_gpus_ids(plugin: PluginLab) -> None:
    assert plugin.kubelet.options.get_preferred_allocation_available
    plugin.pending("one", plugin.share("b") + ";")
    available = [*plugin.ids("a", 0, 1), *plugin.ids("b", 3, 4)]
    assert plugin.kubelet.preferred(available, 1)[0] in plugin.ids("b", 3, 4)


@shows(129)
def test_2_8_has_no_preference(plugin: PluginLab) -> None:
    assert not plugin.kubelet.options.get_preferred_allocation_available
    plugin.pending("one", plugin.share("b") + ";")
    assert plugin.kubelet.preferred([*plugin.ids("a"), *plugin.ids("b")], 1) == []
