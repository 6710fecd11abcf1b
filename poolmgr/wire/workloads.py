"""The few fields of Deployments, DaemonSets, ConfigMaps, Secrets and disruption budgets that are read."""

from poolmgr.wire.meta import ObjectMeta, Wire


class Requirement(Wire, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Wire, frozen=True):
    """metav1.LabelSelector. Null means it was absent, which selects nothing; empty selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class NamedContainer(Wire, frozen=True):
    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


class TemplateSpec(Wire, frozen=True):
    node_selector: dict[str, str] = {}
    containers: tuple[NamedContainer, ...] = ()


class PodTemplate(Wire, frozen=True):
    spec: TemplateSpec = TemplateSpec()


class WorkloadSpec(Wire, frozen=True):
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class DaemonSet(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: WorkloadSpec = WorkloadSpec()


class Deployment(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: WorkloadSpec = WorkloadSpec()


class ConfigMap(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}


class Secret(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, bytes] = {}
    """Base64 in JSON."""


class BudgetSpec(Wire, frozen=True):
    selector: LabelSelector | None = None


class BudgetStatus(Wire, frozen=True):
    disruptions_allowed: int = 0
    observed_generation: int = 0


class DisruptionBudget(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()
