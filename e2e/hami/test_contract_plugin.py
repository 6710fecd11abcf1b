"""The contract's device plugin: what it offers the kubelet and registers on its node."""

import itertools
import json
import os
import signal
from collections.abc import Iterator

import pytest

from e2e.controlplane.hami import REGISTER_ANNOTATION, Hami
from e2e.hami.contract import shows
from e2e.hami.plugin_lab import PluginLab, plugin_lab
from e2e.hami.statements import V8, V10
from e2e.nvml.state import L40S

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def plugin(standing: Hami) -> Iterator[PluginLab]:
    with plugin_lab(standing) as it:
        yield it


@shows(100, 101)
def test_it_offers_and_registers_what_nvml_shows(plugin: PluginLab, release: str) -> None:
    plugin.show("a", "b")
    plugin.configure(deviceMemoryScaling=1.5, deviceCoreScaling=2, deviceSplitCount=4)
    plugin.run()
    assert plugin.offers("a", "b", split=4)
    assert set(plugin.kubelet.devices) == {*plugin.ids("a", 0, 1, 2, 3), *plugin.ids("b", 0, 1, 2, 3)}
    (request,) = plugin.kubelet.registrations
    assert (request.resource_name, request.endpoint) == ("nvidia.com/gpu", "nvidia-gpu.sock")
    found = {entry["id"]: entry for entry in plugin.registration()}
    if release == V8:
        assert [entry.pop("devicepairscore") for entry in found.values()] == [{}, {}]
    common = {"count": 4, "devmem": L40S.memory_mib * 3 // 2, "devcore": 200, "type": L40S.name}
    common |= {"mode": "hami-core", "health": True}
    assert found[plugin.uuid("a")] == common | {"id": plugin.uuid("a")}
    assert found[plugin.uuid("b")] == common | {"id": plugin.uuid("b"), "index": 1}


@shows(102)
def test_its_nodes_entry_overrides_the_rest(plugin: PluginLab) -> None:
    plugin.show("a")
    plugin.configure_node(devicesplitcount=3, devicememoryscaling=2, devicecorescaling=1.5)
    plugin.run()
    assert plugin.offers("a", split=3)
    (entry,) = plugin.registration()
    assert (entry["count"], entry["devmem"], entry["devcore"]) == (3, 2 * L40S.memory_mib, 150)


@shows(103)
def test_2_10_hides_filtered_gpus(plugin: PluginLab) -> None:
    plugin.show("a", "b", "c")
    plugin.configure_node(filterdevices={"uuid": [plugin.uuid("b")], "index": [2]})
    plugin.run()
    assert plugin.offers("a")
    assert plugin.registered() == {plugin.uuid("a")}


@shows(104)
def test_2_8_does_not_filter(plugin: PluginLab) -> None:
    plugin.show("a", "b")
    plugin.configure_node(filterdevices={"uuid": [plugin.uuid("a")], "index": [1]})
    plugin.run()
    assert plugin.offers("a", "b")
    assert plugin.registered() == {plugin.uuid("a"), plugin.uuid("b")}


@shows(106)
def test_2_10_keeps_an_emptied_filter_over_sighup(plugin: PluginLab) -> None:
    plugin.show("a", "b")
    plugin.configure_node(filterdevices={"uuid": [plugin.uuid("a")], "index": []})
    process = plugin.run()
    plugin.configure_node(filterdevices={"uuid": [], "index": []}, devicesplitcount=3)
    os.kill(process.pid, signal.SIGHUP)
    plugin.lab.until("the new split, of the GPU that was not hidden", lambda: plugin.offers("b", split=3))


def check_what_a_scan_leaves_alone(plugin: PluginLab, **variables: str) -> None:
    plugin.show("a")
    plugin.run(**variables)
    plugin.configure_node(devicesplitcount=3)
    plugin.show("a", "b", lines="event = 1 xid 79" if variables else "")
    plugin.lab.annotate_node(plugin.node, node_nvidia_register="[]")
    plugin.wait_for_scan()
    assert plugin.offers("a")
    assert plugin.registration() == []


@shows(105, 107, 110, on=(V8,))
def test_2_8_sees_no_new_gpu_setting_or_edit(plugin: PluginLab) -> None:
    check_what_a_scan_leaves_alone(plugin)


@shows(105, 107, 110, 114, on=(V10,))
def test_2_10_sees_no_new_gpu_setting_edit_nor_without_health_checks_an_error(plugin: PluginLab) -> None:
    check_what_a_scan_leaves_alone(plugin, DP_DISABLE_HEALTHCHECKS="all")


@shows(108, 109, 111)
def test_scans_find_gone_ill_and_reordered_gpus(standing: Hami) -> None:
    """Three nodes side by side, because a scan is waited for half a minute."""
    with plugin_lab(standing) as loses, plugin_lab(standing) as ails, plugin_lab(standing) as shuffles:
        many = "abcdefgh"  # of eight, the same order comes twice in a row once in 40,320 times
        for plugin, names in ((loses, "ab"), (ails, "ab"), (shuffles, many)):
            plugin.show(*names)
            plugin.run()
        loses.show("a")
        shuffles.lab.annotate_node(shuffles.node, node_nvidia_register="[]")
        numbers = itertools.count(1)

        def ill() -> bool:
            # An event is only for whoever has registered for it already, and nothing tells when it has.
            ails.show("a", "b", lines=f"event = {next(numbers)} xid 79")
            return ails.offers("b")

        ails.lab.until("a to be unhealthy", ill)
        ails.show("a", "b")
        ails.lab.until("the annotation to say so", lambda: ails.registered(healthy=True) == {ails.uuid("b")})
        assert ails.offers("b"), "a GPU that is well again stays unhealthy"
        shuffles.lab.until("it to write again", lambda: len(shuffles.registration()) == len(many))
        assert loses.ended() == 2
        loses.run()
        loses.lab.until("the other alone", lambda: loses.registered() == {loses.uuid("a")})
        assert loses.offers("a")


@shows(112)
def test_without_gpus_it_waits(plugin: PluginLab) -> None:
    plugin.show()
    left = json.dumps([{"id": "GPU-left", "count": 10}])
    plugin.lab.annotate_node(plugin.node, node_nvidia_register=left)
    process = plugin.start()
    plugin.lab.until("it to wait", lambda: "No devices found. Waiting indefinitely." in plugin.log())
    assert process.running
    assert plugin.kubelet.registrations == []
    assert plugin.lab.annotations_of_node(plugin.node)[REGISTER_ANNOTATION] == left


@shows(113)
def test_without_a_driver_it_ends(plugin: PluginLab) -> None:
    plugin.show(fail="nvmlInit DRIVER_NOT_LOADED")
    plugin.start()
    assert plugin.ended() == 1
    process = plugin.start(FAIL_ON_INIT_ERROR="false")
    plugin.lab.until("it to wait", lambda: "No devices found. Waiting indefinitely." in plugin.log())
    assert process.running


@shows(115)
def test_2_8_ends_without_health_checks(plugin: PluginLab) -> None:
    plugin.show("a")
    plugin.start(DP_DISABLE_HEALTHCHECKS="all")
    assert plugin.ended() == 2
    assert plugin.kubelet.registrations


@shows(116)
def test_a_kubelet_that_comes_back_is_registered_with(plugin: PluginLab) -> None:
    plugin.show("a")
    process = plugin.run()
    pid = process.pid
    plugin.kubelet.stop()
    plugin.kubelet.start()
    plugin.lab.until("a second registration", lambda: len(plugin.kubelet.registrations) == 2)
    plugin.lab.until("the devices", lambda: plugin.offers("a"))
    assert process.pid == pid


@shows(117)
def test_it_deletes_its_lock_file(plugin: PluginLab) -> None:
    lock = plugin.folder / "tmp-hami" / "hami-mig-apply.lock"
    lock.touch()
    plugin.show("a")
    plugin.run()
    assert not lock.exists()
