"""Accelerators that poolmgr gives out in no mode, by the resources that pods ask for them with.

HAMi's and its relatives' names (charts/hami/values.yaml; Volcano's vGPU plugin; NVIDIA's plugin for MIG).
"""

from collections.abc import Iterable

NVIDIA = "nvidia.com/"
OTHERS: tuple[tuple[str, str], ...] = (
    ("nvidia.com/mig-", "a MIG slice"),
    ("nvidia.com/gpu", "a GPU of another device plugin than HAMi's"),
    ("nvidia.com/vgpu", "a slice of another device plugin than HAMi's"),
    ("volcano.sh/vgpu", "a slice of Volcano's vGPU plugin"),
    ("huawei.com/Ascend", "an Ascend NPU"),
    ("cambricon.com/", "a Cambricon MLU"),
    ("hygon.com/dcu", "a Hygon DCU"),
    ("metax-tech.com/", "a MetaX GPU"),
    ("mthreads.com/", "a Moore Threads GPU"),
    ("iluvatar.ai/", "an Iluvatar GPU"),
    ("enflame.com/", "an Enflame GCU"),
    ("kunlunxin.com/", "a Kunlunxin XPU"),
    ("aws.amazon.com/neuron", "an AWS Neuron device"),
    ("amd.com/gpu", "an AMD GPU"),
    ("birentech.com/", "a Biren GPU"),
    ("vastaitech.com/", "a Vastai accelerator"),
    ("gpu.intel.com/", "an Intel GPU"),
)
"""(beginning of the resource's name, what it is)."""


def card_names(resource: str) -> str:
    """What the resource names of the GPUs begin with that a pod which asks for `resource` may be on."""
    domain, slash, _ = resource.partition("/")
    return NVIDIA if domain == "volcano.sh" else domain + slash


def other_accelerator(resources: Iterable[str]) -> tuple[str, str] | None:
    """The first of them that is such a one, and what it is."""
    for name in sorted(resources):
        for prefix, kind in OTHERS:
            if name.startswith(prefix):
                return name, kind
    return None
