"""Which release of HAMi's scheduler runs here: the recipe for taking a GPU differs by it."""

import re
from collections.abc import Iterable

from poolmgr.wire import Deployment
from poolmgr.wire.hami import names

Minor = tuple[int, int]

_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.\d+)?(?:[-+.].*)?$")

OLDEST_JSON: Minor = (2, 8)
OLDEST_TEXT: Minor = (2, 7)
DEVICE_CORDON_SINCE: Minor = (2, 10)


def parse_minor(text: str) -> Minor | None:
    """`v2.10.0`, `2.8`, `v2.9.0-rc1` to (2, 10), (2, 8), (2, 9); None for `latest`, a digest or anything."""
    match = _VERSION.match(text.strip())
    return (int(match[1]), int(match[2])) if match else None


def detect_version(
    setting: str,
    deployments: Iterable[Deployment],
    config_hint: Minor | None,
    register_annotation: str,
) -> Minor:
    """The first that can tell: the setting, the extender's image tag, the chart's version label, the shape
    of HAMi's configuration, the form of a register annotation.

    The last two bound the release rather than name it; the oldest that fits is assumed, because the recipe
    for an older release is the more careful one.
    """
    if (minor := parse_minor(setting)) is not None:
        return minor
    deployed = tuple(deployments)
    for deployment in deployed:
        for container in deployment.spec.template.spec.containers:
            if container.name == names.EXTENDER_CONTAINER and (minor := parse_minor(_tag(container.image))):
                return minor
    for deployment in deployed:
        if minor := parse_minor(deployment.metadata.labels.get(names.VERSION_LABEL, "")):
            return minor
    if config_hint is not None:
        return config_hint
    return OLDEST_JSON if register_annotation.lstrip().startswith("[") else OLDEST_TEXT


SCHEDULER_NAME = "--scheduler-name"


def scheduler_name(deployment: Deployment) -> str:
    """The `schedulerName` of pods that HAMi serves, as its extender is told; empty where it is not."""
    for container in deployment.spec.template.spec.containers:
        if container.name == names.EXTENDER_CONTAINER:
            words = (*container.command, *container.args)
            for place, word in enumerate(words):
                option, _, value = word.partition("=")
                if option == SCHEDULER_NAME:
                    return value or "".join(words[place + 1 : place + 2])
    return ""


def _tag(image: str) -> str:
    """The tag of `registry:5000/project/image:tag@sha256:…`; empty where there is none."""
    name = image.split("@", 1)[0].rsplit("/", 1)[-1]
    return name.partition(":")[2]
