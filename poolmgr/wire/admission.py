"""admissionregistration.k8s.io/v1 MutatingWebhookConfiguration, as far as its order and its authority go."""

from poolmgr.wire.meta import ObjectMeta, Wire


class ClientConfig(Wire, frozen=True):
    ca_bundle: str = ""


class Webhook(Wire, frozen=True):
    name: str = ""
    client_config: ClientConfig = ClientConfig()


class WebhookConfiguration(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    webhooks: tuple[Webhook, ...] = ()
