"""`poolmgr webhook review`: what admission would answer, for policy in CI and for support. No cluster is asked."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from poolmgr.cli.offline import read_text, store_of
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import SystemClock
from webhooks.virtual_machine import UnknownResources

if TYPE_CHECKING:
    from poolmgr.cluster.objects import ObjectStore
    from webhooks.fleet_view import FleetView
    from webhooks.review import Answer

T = TypeVar("T")

REFUSED = 1
"""Exit code, as of every command that answers no."""


def review(
    request: Annotated[
        Path,
        typer.Argument(
            help="A manifest to be created, or an AdmissionReview, as YAML or JSON; - reads standard input."
        ),
    ],
    fleet: Annotated[
        Path,
        typer.Option(
            help="The cluster's objects as YAML or JSON: Nodes, GPUNodes, GPUPools, GPUReservations.",
        ),
    ],
    namespace: Annotated[
        str, typer.Option(help="Where a manifest without a namespace would go.")
    ] = "default",
    unknown_resources: Annotated[
        UnknownResources,
        typer.Option(
            envvar="POOLMGR_UNKNOWN_RESOURCES", help="As `poolmgr webhook serve` in your cluster has it."
        ),
    ] = UnknownResources.REFUSE,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="text, or json for the AdmissionReview as the API server gets it."
        ),
    ] = "text",
) -> None:
    """Print what the webhook would answer to a request, without a cluster. Exit code 1: it would refuse.

    \b
    kubectl get nodes,gpunodes,gpupools,gpureservations -A -o yaml > fleet.yaml
    poolmgr webhook review --fleet fleet.yaml vm.yaml
    """
    from webhooks.decide import Policy, handlers, read
    from webhooks.review import encode_review

    if output not in ("text", "json"):
        raise typer.BadParameter(f"there is no output {output!r}: text or json")
    asked = _review_in(read_text(request), str(request), namespace)
    kind = _path_of(asked["request"]["object"] or {})
    known = handlers(Policy(unknown=unknown_resources), SystemClock().now)
    if kind not in known:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"no webhook of poolmgr is asked about {kind}; it is about {', '.join(known)}. Of a Deployment or Job, give a pod "
            "as its template makes it",
        )
    view = _view(store_of(read_text(fleet), fleet))
    found = read(kind, json.dumps(asked, default=str).encode())
    answer = known[kind](found, view)
    if output == "json":
        print(encode_review(found.uid, answer).decode())
    else:
        print("\n".join(lines_of(answer)))
    if not answer.verdict.ok:
        raise typer.Exit(REFUSED)


def lines_of(answer: "Answer") -> list[str]:
    """The answer for people: the verdict, each warning, each change."""
    verdict = answer.verdict
    first = f"admitted ({verdict.reason})" if verdict.ok else f"refused ({verdict.reason}): {verdict.message}"
    changes = [f"change: {op['op']} {op['path']} {json.dumps(op.get('value'))}" for op in answer.patch]
    return [first, *(f"warning: {text}" for text in answer.warnings), *changes]


def _review_in(text: str, source: str, namespace: str) -> dict[str, Any]:
    """The review in `text`, or that of creating the object in it. Raises Rejected where it has neither."""
    import yaml

    from poolmgr.cluster.objects import parse_objects

    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        document = None  # more than one document, or none; told below
    if isinstance(document, dict) and document.get("kind") == "AdmissionReview":
        if not isinstance(document.get("request"), dict) or not isinstance(
            document["request"].get("object"), dict
        ):
            raise Rejected(
                Reason.INVALID_BODY, f"the AdmissionReview in {source} has no request with an object"
            )
        return document
    objects = parse_objects(text, source)
    if len(objects) != 1:
        raise Rejected(Reason.INVALID_BODY, f"{source} has {len(objects)} objects; a review is of one")
    [one] = objects
    request = {
        "uid": "review",
        "operation": "CREATE",
        "namespace": one["metadata"].get("namespace") or namespace,
        "name": one["metadata"]["name"],
        "object": one,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _path_of(document: dict[str, Any]) -> str:
    from poolmgr.cluster.objects import kind_of

    try:
        return kind_of(document)[1]
    except (KeyError, AttributeError):
        return "an object without apiVersion and kind"


def _view(objects: "ObjectStore") -> "FleetView":
    from poolmgr import wire
    from poolmgr.wire import kinds
    from poolmgr.wire.kinds import Kind
    from webhooks.fleet_reader import FleetReader

    def of(kind: Kind, as_type: type[T]) -> list[T]:
        return [_decoded(as_type, found) for found in objects.of(kind)]

    return FleetReader().read(
        of(kinds.GPU_NODES, wire.GpuNode),
        of(kinds.GPU_POOLS, wire.GpuPool),
        of(kinds.NODES, wire.Node),
        of(kinds.GPU_RESERVATIONS, wire.GpuReservation),
        now=SystemClock().now(),
    )


def _decoded(as_type: type[T], document: dict[str, Any]) -> T:
    from poolmgr.wire.decoding import decode_as

    try:
        return decode_as(as_type, msgspec.json.encode(document))
    except msgspec.DecodeError as error:
        name = f"{document['kind']} {document['metadata']['name']}"
        raise Rejected(Reason.INVALID_BODY, f"{name} of the fleet cannot be read: {error}") from error
