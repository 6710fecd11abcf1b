"""hatchling's hook (pyproject.toml): puts libhook into the wheel where POOLMGR_WHEEL_LIBRARY names a build of it, for the
platform POOLMGR_WHEEL_PLATFORM (`manylinux2014_x86_64`). Without the variables the wheel is pure Python, for any platform.
"""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibhookBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling takes the one class of this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        library = os.environ.get("POOLMGR_WHEEL_LIBRARY")
        if not library or version == "editable":
            return
        build_data["force_include"][library] = "poolmgr/lib/libvgpu.so"  # poolmgr.cli.gpu looks there first
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ['POOLMGR_WHEEL_PLATFORM']}"
