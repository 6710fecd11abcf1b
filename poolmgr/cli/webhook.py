"""`poolmgr webhook`: serve admission. Wires watches, certificate and application together."""

import asyncio
import contextlib
import random
import signal
from pathlib import Path
from typing import Annotated

import typer

from poolmgr.cli.webhook_review import review
from poolmgr.kit import log
from poolmgr.wire.hami.config import HamiConfig
from webhooks.virtual_machine import UnknownResources

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Serve the admission webhooks.",
)

DEFAULTS = HamiConfig()

app.command("review")(review)


@app.callback()
def webhook() -> None:
    """Serve the admission webhooks."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(envvar="POOLMGR_HOST", help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(envvar="POOLMGR_PORT", help="Port to listen on, TLS.")] = 9443,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="Kubeconfig file; leave it out in a pod."),
    ] = None,
    namespace: Annotated[
        str, typer.Option(envvar="POOLMGR_NAMESPACE", help="Namespace of the certificate's Secret.")
    ] = "poolmgr-system",
    secret: Annotated[
        str, typer.Option(envvar="POOLMGR_CERTIFICATE_SECRET", help="Secret that holds the certificate.")
    ] = "poolmgr-webhook-certificate",
    configuration: Annotated[
        str,
        typer.Option(
            envvar="POOLMGR_WEBHOOK_CONFIGURATION",
            help="Name of the mutating and validating webhook configurations that must trust it.",
        ),
    ] = "00-poolmgr",
    names: Annotated[
        str,
        typer.Option(
            envvar="POOLMGR_SERVING_NAMES",
            help="DNS names and IP addresses at which the API server reaches this webhook, separated by commas.",
        ),
    ] = "poolmgr-webhook.poolmgr-system.svc",
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="POOLMGR_TLS_CERTIFICATE",
            help="Certificate file that another program renews (e.g. cert-manager); without it, poolmgr makes its own.",
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="POOLMGR_TLS_KEY", help="Its private key.")] = None,
    unknown_resources: Annotated[
        UnknownResources,
        typer.Option(
            envvar="POOLMGR_UNKNOWN_RESOURCES",
            help="For GPU models that no node has: Refuse, or Warn if an autoscaler may add such a node.",
        ),
    ] = UnknownResources.REFUSE,
    gates: Annotated[
        bool,
        typer.Option(
            envvar="POOLMGR_GATES",
            help="Hold pods that count against a quota until the manager admits them; off where no manager runs.",
        ),
    ] = True,
    gpu_resource: Annotated[
        str, typer.Option(envvar="POOLMGR_GPU_RESOURCE", help="HAMi's resourceCountName.")
    ] = DEFAULTS.count,
    memory_resource: Annotated[
        str, typer.Option(envvar="POOLMGR_MEMORY_RESOURCE", help="HAMi's resourceMemoryName.")
    ] = DEFAULTS.memory,
    memory_percentage_resource: Annotated[
        str,
        typer.Option(
            envvar="POOLMGR_MEMORY_PERCENTAGE_RESOURCE", help="HAMi's resourceMemoryPercentageName."
        ),
    ] = DEFAULTS.memory_percent,
    cores_resource: Annotated[
        str, typer.Option(envvar="POOLMGR_CORES_RESOURCE", help="HAMi's resourceCoreName.")
    ] = DEFAULTS.cores,
    memory_factor: Annotated[
        int, typer.Option(envvar="POOLMGR_MEMORY_FACTOR", help="HAMi's memoryFactor: MiB per unit.", min=1)
    ] = DEFAULTS.memory_factor,
    memory_scaling: Annotated[
        float,
        typer.Option(envvar="POOLMGR_MEMORY_SCALING", help="HAMi's deviceMemoryScaling.", min=0.01),
    ] = DEFAULTS.memory_scaling,
    log_level: Annotated[str, typer.Option(envvar="POOLMGR_LOG_LEVEL")] = "info",
    log_text: Annotated[bool, typer.Option("--log-text", help="Log readable text instead of JSON.")] = False,
) -> None:
    """Answer the API server's admission requests over TLS until told to stop.

    \b
    In the Deployment:  poolmgr webhook serve
    From a machine:     poolmgr webhook serve --kubeconfig ~/.kube/config --names 192.0.2.7 --log-text
    """
    from uvloop import new_event_loop

    from poolmgr.cli.reflected_fleet import ReflectedFleet
    from poolmgr.cluster.client import Client
    from poolmgr.cluster.serving_certificate import SecretCertificateStore
    from poolmgr.cluster.transport import connect
    from poolmgr.kit.clock import SystemClock
    from webhooks import serving
    from webhooks.app import build_app
    from webhooks.decide import Policy

    if (tls_certificate is None) != (tls_key is None):
        raise typer.BadParameter("give --tls-certificate and --tls-key together, or neither")
    log.configure(json_lines=not log_text, level=log_level)
    clock = SystemClock()
    policy = Policy(
        HamiConfig(
            count=gpu_resource,
            memory=memory_resource,
            memory_percent=memory_percentage_resource,
            cores=cores_resource,
            memory_factor=memory_factor,
            memory_scaling=memory_scaling,
        ),
        unknown_resources,
        gates,
    )

    async def until_stopped() -> None:
        loop, work = asyncio.get_running_loop(), asyncio.current_task()
        assert work is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        transport = await connect(str(kubeconfig) if kubeconfig else None)
        client = Client(transport, clock=clock, rng=random.Random())
        fleet = ReflectedFleet(client, clock, policy.hami.count)
        if tls_certificate is not None and tls_key is not None:
            source = serving.pair_from_files(tls_certificate, tls_key)
        else:
            store = SecretCertificateStore(client, namespace, secret, configuration)
            called = frozenset(name.strip() for name in names.split(",") if name.strip())
            source = serving.pair_from_store(store, called, clock)
        tls = serving.TlsCertificate()
        try:
            # All of these run for ever: if one fails, the process ends and the kubelet begins anew.
            async with asyncio.TaskGroup() as group:
                group.create_task(fleet.run())
                await serving.first_certificate(tls, source, clock)
                group.create_task(serving.keep_certificate(tls, source, clock))
                server = serving.server(build_app(policy, fleet, clock), tls, host, port)
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, server.stop)
                await server.serve()
                work.cancel()
        finally:
            await client.close()

    # asyncio's own loop spends twice as much on TLS as the rest of a request takes.
    with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(until_stopped())
