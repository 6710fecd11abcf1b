"""One field of one object of a file, set to another value: `KIND/[NAMESPACE/]NAME:PATH=VALUE`, as `--set` takes it. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
import yaml

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.kinds import Kind

Json = dict[str, Any]
Step = str | int
"""A key of a map, or a place in a list."""

SHORT = {
    "vm": kinds.VIRTUAL_MACHINES,
    "vmi": kinds.VIRTUAL_MACHINE_INSTANCES,
    "no": kinds.NODES,
    "po": kinds.PODS,
    "cm": kinds.CONFIG_MAPS,
    "ds": kinds.DAEMON_SETS,
    "deploy": kinds.DEPLOYMENTS,
    "pdb": kinds.DISRUPTION_BUDGETS,
    "pvc": kinds.VOLUME_CLAIMS,
    "pv": kinds.VOLUMES,
    "sc": kinds.STORAGE_CLASSES,
}
"""kubectl's short names."""

_FORM = re.compile(r"([^/:=]+)/(?:([^/:=]+)/)?([^/:=]+):([^=]+)=(.*)", re.DOTALL)
_STEP = re.compile(r"((?:[^.\[\]\\]|\\.)+)((?:\[\d+\])*)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Edit:
    kind: Kind
    namespace: str
    """Empty: the only object of this name."""
    name: str
    path: tuple[Step, ...]
    value: Any
    """None takes the field away."""


def parse_edit(text: str, known: Iterable[Kind]) -> Edit:
    """The edit that `text` describes. `known`: kinds that it may be about. Raises Rejected with the form where it has another."""
    found = _FORM.fullmatch(text)
    path = _path(found[4]) if found else ()
    if found is None or not path:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"--set {text!r} is not KIND/[NAMESPACE/]NAME:PATH=VALUE, e.g. gpupool/a10:spec.passthrough.headroom=2; in a key, "
            r"write \. for a dot",
        )
    try:
        value = yaml.load(found[5], Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise Rejected(
            Reason.INVALID_REQUEST, f"--set {text!r}: {found[5]!r} is no YAML value: {error}"
        ) from error
    return Edit(_kind(found[1].lower(), tuple(known)), found[2] or "", found[3], path, value)


def _path(text: str) -> tuple[Step, ...]:
    """Empty where `text` is no path."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            return ()
        steps.append(re.sub(r"\\(.)", r"\1", step[1]))
        steps += map(int, re.findall(r"\d+", step[2]))
        at = step.end()
    return tuple(steps)


def _kind(name: str, known: tuple[Kind, ...]) -> Kind:
    names = {word: kind for kind in known for word in (kind.plural, str(kind), _singular(kind.plural))}
    names |= {word: kind for word, kind in SHORT.items() if kind in known}
    if name not in names:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"no decision looks at objects of kind {name!r}; --set is for {', '.join(kind.plural for kind in known)}",
        )
    return names[name]


def _singular(plural: str) -> str:
    return plural.removesuffix("es") if plural.endswith("sses") else plural.removesuffix("s")


def changed(document: Mapping[str, Any], edit: Edit, as_type: type[Any]) -> Json:
    """`document` with the field set, maps on the way made. `as_type`: what decisions read of such an object.

    Raises Rejected for a field that none reads, a step that does not fit, and a value that cannot be read.
    """
    _look_at(as_type, edit.path)
    whole: Json = msgspec.json.decode(msgspec.json.encode(document))
    _put(whole, edit.path, edit.value, 0)
    try:
        msgspec.json.decode(msgspec.json.encode(whole), type=as_type)
    except (msgspec.MsgspecError, TypeError) as error:
        raise Rejected(
            Reason.INVALID_REQUEST, f"--set {_text(edit.path)}={edit.value!r} cannot be read: {error}"
        ) from error
    return whole


def _put(inside: Any, path: tuple[Step, ...], value: Any, at: int) -> None:
    step, last = path[at], at == len(path) - 1
    if isinstance(step, int):
        if not isinstance(inside, list) or step >= len(inside):
            length = f"has {len(inside)}" if isinstance(inside, list) else "is no list"
            raise Rejected(Reason.INVALID_REQUEST, f"--set {_text(path)}: {_text(path[:at])} {length}")
    elif not isinstance(inside, dict):
        raise Rejected(
            Reason.INVALID_REQUEST, f"--set {_text(path)}: {_text(path[:at])} is no map but {inside!r}"
        )
    if last and value is None:
        if isinstance(step, int) or step in inside:
            del inside[step]
    elif last:
        inside[step] = value
    else:
        if not isinstance(step, int) and inside.get(step) is None:
            inside[step] = {}
        _put(inside[step], path, value, at + 1)


def _look_at(as_type: Any, path: tuple[Step, ...]) -> None:
    """Refuses a path that leads past what is read: a misspelt field would change nothing, and say nothing."""
    for step in path:
        choices = get_args(as_type) if get_origin(as_type) in (Union, UnionType) else (as_type,)
        struct = next((c for c in choices if isinstance(c, type) and issubclass(c, msgspec.Struct)), None)
        many = next((c for c in choices if get_origin(c) in (list, tuple, dict)), None)
        if struct is not None and isinstance(step, str):
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
            if step not in fields:
                near = get_close_matches(step, fields, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(fields))}"
                raise Rejected(
                    Reason.INVALID_REQUEST, f"--set {_text(path)}: no decision looks at {step}; {hint}"
                )
            as_type = fields[step]
        elif many is not None:
            as_type = next(a for a in reversed(get_args(many)) if a is not ...)
        else:
            return  # read as it is, or not a map here: told when it is put


def _text(path: tuple[Step, ...]) -> str:
    words = (f"[{step}]" if isinstance(step, int) else "." + step.replace(".", r"\.") for step in path)
    return "".join(words).removeprefix(".")
