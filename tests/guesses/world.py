"""One node with GPUs, the hidden truth of who uses them, and what each witness makes of it. Values and how they are drawn.

A `Use` is true. Each witness of its kind either tells of it, or can be read and is silent, or cannot be read at all. A GPU
is `owed` its rest when one of them tells or cannot be read. Nothing is owed where all of them are silent: nobody
could know.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from hypothesis import strategies as st

from poolmgr.domain.modes import Mode, Step


class Witness(StrEnum):
    """Whoever may know that a GPU is used, or that what is known of it is not to be trusted."""

    DEVICE_FILE = "an open /dev/nvidia<n>"
    RENDER_NODE = "an open render node"
    MIG_FILE = "an open file of a MIG instance"
    VFIO_FILE = "an open vfio group or device"
    NVML_PROCESSES = "NVML's lists of processes"
    NVML_MIG = "NVML, of the MIG mode"
    CONSOLE = "the kernel's console"
    BOOT_DISPLAY = "the display that the host boots on"
    MODESET = "nvidia-drm's modesetting"
    PERSISTENCE = "NVML, of the persistence mode"
    VIRTUAL_FUNCTIONS = "SR-IOV's count of virtual functions"
    VIRTUAL_LINKS = "the card's links to its virtual functions"
    MEDIATED = "mediated devices in sysfs"
    BUS = "the card's configuration space"
    KUBELET_OWN = "the kubelet, of our own devices"
    KUBELET_OTHERS = "the kubelet, of other plugins' devices"
    KUBELET_CLAIM = "the kubelet, of ResourceClaims"
    GRANT = "our plugin, of what it has just given away"
    ANNOTATION = "HAMi's annotation on the pod"
    REQUEST = "the pod's request for a GPU, by a name that is known"
    POD_CLAIM = "the pod's ResourceClaims"
    LAUNCHER = "KubeVirt's instance and its launcher pod"
    REGISTER = "HAMi's registered UUIDs"
    DRIVER_UUID = "the UUID in the driver's own file"
    UUIDS = "UUIDs that are one GPU's each"
    HEARTBEAT = "the agent's heartbeat"
    ACKNOWLEDGEMENT = "the generation that the agent has acted on"


class Source(StrEnum):
    """What may not be readable."""

    KUBELET = "the kubelet does not answer"
    NVML = "NVML fails"
    NVML_MIG = "NVML fails at the MIG mode"
    NVML_PROCESSES = "NVML fails at the lists of processes"
    PROCESS = "a process's open files cannot be read"
    CONFIGURATION = "the card has no configuration space"
    PARTS = "what the card is divided into cannot be read"
    CONSOLES = "the kernel's consoles cannot be read"
    DRIVER_FILES = "a mount hides /proc/driver/nvidia"
    POD_LIST = "the agent cannot list pods"
    REGISTER = "HAMi's registration is no JSON"


W = Witness
FILES = {W.DEVICE_FILE, W.RENDER_NODE, W.MIG_FILE, W.VFIO_FILE}
SILENCED: dict[Source, set[Witness]] = {
    Source.KUBELET: {W.KUBELET_OWN, W.KUBELET_OTHERS, W.KUBELET_CLAIM},
    Source.NVML: {W.NVML_MIG, W.NVML_PROCESSES, W.UUIDS, W.DRIVER_UUID},
    Source.NVML_MIG: {W.NVML_MIG},
    Source.NVML_PROCESSES: {W.NVML_PROCESSES},
    Source.PROCESS: FILES,
    Source.CONFIGURATION: {W.BUS},
    Source.PARTS: {W.VIRTUAL_FUNCTIONS, W.MEDIATED},
    Source.CONSOLES: {W.CONSOLE},
    # Alone it hides no number of /dev/nvidia<n>, since NVML tells that as well.
    Source.DRIVER_FILES: set(),
    Source.POD_LIST: set(),  # the agent's last look fails, and the manager reads them for itself
    Source.REGISTER: {W.REGISTER},
}


class Kind(Enum):
    """Ways to use a GPU: the side it is on, and who can know. The name is how the play lays it out."""

    COMPUTE = (Mode.SHARED, {W.DEVICE_FILE, W.NVML_PROCESSES})
    RENDER = (Mode.SHARED, {W.RENDER_NODE, W.NVML_PROCESSES})
    MIG = (Mode.SHARED, {W.MIG_FILE, W.NVML_MIG, W.KUBELET_OTHERS})
    SLICE = (Mode.SHARED, {W.ANNOTATION, W.KUBELET_OTHERS, W.REQUEST})
    """A pod of HAMi that does not compute at the moment."""
    OTHER_PLUGIN = (Mode.SHARED, {W.KUBELET_OTHERS, W.REQUEST})
    """A pod of NVIDIA's device plugin, likewise."""
    CLAIM = (Mode.SHARED, {W.KUBELET_CLAIM, W.POD_CLAIM})
    RENAMED = (Mode.SHARED, {W.REGISTER, W.DRIVER_UUID, W.ANNOTATION, W.KUBELET_OTHERS, W.REQUEST})
    """A slice of a GPU that NVML has another UUID for than HAMi gave it away by."""
    TWIN = (Mode.SHARED, {W.UUIDS, W.ANNOTATION, W.KUBELET_OTHERS, W.REQUEST})
    """A slice of a GPU whose neighbour says that it has the same UUID."""
    CONSOLE = (Mode.SHARED, {W.CONSOLE, W.BOOT_DISPLAY})
    MODESET = (Mode.SHARED, {W.MODESET})
    PERSISTENCE = (Mode.SHARED, {W.PERSISTENCE})
    VGPU = (Mode.SHARED, {W.VIRTUAL_FUNCTIONS, W.VIRTUAL_LINKS, W.MEDIATED})
    FALLEN = (Mode.SHARED, {W.BUS})
    """Nobody's, and every write to it may hang."""
    VM = (Mode.PASSTHROUGH, {W.VFIO_FILE, W.KUBELET_OWN, W.LAUNCHER})
    ADMITTED = (Mode.PASSTHROUGH, {W.GRANT, W.LAUNCHER})
    """A VM whose launcher the kubelet is just admitting."""

    def __init__(self, mode: Mode, witnesses: set[Witness]) -> None:
        self.mode = mode
        self.witnesses = frozenset(witnesses)

    @property
    def asked_last(self) -> bool:
        """Nobody can ask before the agent is about to unbind: such a GPU may be closed, and is never unbound."""
        return self is Kind.PERSISTENCE


ON_THE_NODE = frozenset(W) - {W.ANNOTATION, W.REQUEST, W.POD_CLAIM, W.LAUNCHER, W.REGISTER}
OF_THE_REPORT = (W.HEARTBEAT, W.ACKNOWLEDGEMENT)
ARRIVE = (None, None, None, Step.INTEND, Step.FENCE, Step.DRAIN, Step.DETACH)
"""When a use begins: before anybody looks, between the plan and its verification, or once a move of its GPU is at this step."""
SUDDEN = (Kind.COMPUTE, Kind.RENDER, Kind.SLICE, Kind.OTHER_PLUGIN)
"""Uses that may begin at any time: what withdraws a GPU from VMs keeps them from coming later, and a card is not divided or
looked at in the midst of a move either."""
NAMELESS = (Kind.CLAIM, Kind.RENAMED, Kind.TWIN)
"""Uses of which nobody can say which GPU of the node they have."""
TOLD_TO_THE_MANAGER = {W.ANNOTATION, W.REQUEST}
"""By the cluster's objects, as soon as the use begins."""


@dataclass(frozen=True)
class Use:
    gpu: int
    kind: Kind
    tells: frozenset[Witness]
    arrives: Step | None = None
    between_runs: bool = False
    """KubeVirt, where it is silent, has the machine between two runs, rather than none."""


@dataclass(frozen=True)
class World:
    modes: tuple[Mode, ...]
    """Of each GPU, at first."""
    uses: tuple[Use, ...]
    unreadable: frozenset[Source] = frozenset()
    untold: Witness | None = None
    """HEARTBEAT or ACKNOWLEDGEMENT: the agent stood still before any use began, and this tells of it."""
    wanted: Mode = Mode.PASSTHROUGH
    """VMs or containers wait, more than there are GPUs."""

    @property
    def indices(self) -> range:
        return range(len(self.modes))

    def use_of(self, gpu: int) -> Use | None:
        return next((use for use in self.uses if use.gpu == gpu), None)

    def is_owed(self, use: Use) -> bool:
        """Somebody tells of the use, or cannot be asked about it."""
        if self.untold is not None and use.kind.witnesses & ON_THE_NODE:
            return True
        return bool((use.tells | self.dark) & use.kind.witnesses)

    @property
    def dark(self) -> set[Witness]:
        """Those that cannot be asked."""
        found = {witness for source in self.unreadable for witness in SILENCED[source]}
        if {Source.NVML, Source.DRIVER_FILES} <= self.unreadable:
            found |= FILES - {W.VFIO_FILE}
        return found

    @property
    def owed(self) -> tuple[Use, ...]:
        return tuple(use for use in self.uses if self.is_owed(use))

    @property
    def clear(self) -> bool:
        """Everybody can be asked, nobody contradicts anybody, and it is known which GPU each user has."""
        return (
            not self.unreadable
            and self.untold is None
            and all(u.tells == u.kind.witnesses and u.kind not in NAMELESS for u in self.uses)
        )

    @property
    def free(self) -> tuple[int, ...]:
        """GPUs without a use on the side that is to give some."""
        return tuple(i for i in self.indices if self.use_of(i) is None and self.modes[i] is self.wanted.other)


@dataclass(frozen=True)
class Case:
    """What the use of the first GPU hangs on; the other GPUs are as they come."""

    name: str
    alone: Witness | None = None
    """It alone tells of the use, where everybody can be asked."""
    dark: frozenset[Source] = frozenset()
    """Nobody tells of the use, and these cannot be asked."""
    arrives: Step | None = None
    """The use begins then, and one witness tells of it."""


ANYTHING = Case("anything")
CASES = (
    ANYTHING,
    *(Case(witness.name, alone=witness) for witness in Witness),
    *(Case(f"no {source.name}", dark=frozenset({source})) for source, silent in SILENCED.items() if silent),
    Case("no NVML, no DRIVER_FILES", dark=frozenset({Source.NVML, Source.DRIVER_FILES})),
    *(Case(f"at {step}", arrives=step) for step in (*filter(None, ARRIVE), Step.REBIND)),
)


@st.composite
def worlds(draw: st.DrawFn, case: Case = ANYTHING) -> World:
    first = draw(_first_uses(case)) if case is not ANYTHING else None
    wanted = draw(st.sampled_from((Mode.PASSTHROUGH, Mode.PASSTHROUGH, Mode.SHARED)))
    if first is not None:
        wanted = first.kind.mode.other
    modes = (wanted.other, *draw(st.lists(st.sampled_from(Mode), min_size=1, max_size=2)))
    if first is not None and first.kind is Kind.TWIN:
        modes = (*modes, first.kind.mode)
    untold = draw(st.sampled_from((None,) * 8 + OF_THE_REPORT))
    if first is not None:
        untold = case.alone if case.alone in OF_THE_REPORT else None
    uses = [] if first is None else [first]
    for gpu, mode in list(enumerate(modes))[len(uses) :]:
        here = [kind for kind in Kind if kind.mode is mode]
        if modes.count(mode) == 1:
            here = [kind for kind in here if kind is not Kind.TWIN]
        if any(use.kind is Kind.CONSOLE for use in uses):
            here = [kind for kind in here if kind is not Kind.CONSOLE]
        if draw(st.sampled_from((True, True, False))):
            uses.append(draw(_uses(gpu, here, stands_still=untold is not None)))
    few = st.frozensets(st.sampled_from(Source), min_size=1, max_size=2)
    dark = draw(few) if case is ANYTHING and draw(st.integers(1, 4)) == 4 else case.dark
    return World(modes, tuple(uses), dark, untold, wanted)


@st.composite
def _first_uses(draw: st.DrawFn, case: Case) -> Use:
    kinds, tells = list(SUDDEN), frozenset()
    if case.alone is not None:
        kinds = [kind for kind in Kind if case.alone in kind.witnesses] or [Kind.COMPUTE]
        tells = frozenset({case.alone})
    elif case.dark:
        kinds = [kind for kind in Kind if kind.witnesses & World((), (), case.dark).dark]
    kind = draw(st.sampled_from(kinds))
    if case.arrives is not None:
        # At Rebind the agent looks next, which goes by no request.
        known = kind.witnesses - ({W.REQUEST} if case.arrives is Step.REBIND else set())
        tells = frozenset({draw(st.sampled_from(sorted(known)))})
    return Use(0, kind, tells, case.arrives, draw(st.booleans()))


@st.composite
def _uses(draw: st.DrawFn, gpu: int, kinds: list[Kind], *, stands_still: bool) -> Use:
    kind = draw(st.sampled_from(kinds))
    known = sorted(kind.witnesses)
    match draw(st.sampled_from(("all", "all", "one", "some"))):
        case "all":
            tells = kind.witnesses
        case "one":
            tells = frozenset({draw(st.sampled_from(known))})
        case _:
            tells = draw(st.frozensets(st.sampled_from(known)))
    arrives = draw(st.sampled_from(ARRIVE)) if kind in SUDDEN and not stands_still else None
    return Use(gpu, kind, tells, arrives, draw(st.booleans()))


@dataclass
class Tally:
    """What a run over many worlds has met."""

    worlds: int = 0
    uses: int = 0
    owed: int = 0
    witnesses: set[Witness] = field(default_factory=set)
    """That told of a use, or could not be asked about one."""
    moving: int = 0
    """Worlds in which a GPU that nobody used was planned for a move."""
    free: int = 0
    """GPUs that nobody used, in worlds where everybody could be asked."""
    moved: int = 0
    """Those of them that were planned for a move."""

    arrived: int = 0
    """Uses that came in the midst of a move or of its planning."""

    def count(self, world: World, planned: frozenset[int], arrived: frozenset[int]) -> None:
        self.worlds += 1
        self.uses += len(world.uses)
        self.owed += len(world.owed)
        self.arrived += len(arrived)
        self.witnesses.update(_heard(world))
        self.moving += bool(planned & set(world.free))
        if world.clear:
            self.free += len(world.free)
            self.moved += len(planned & set(world.free))

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {len(self.witnesses)} of {len(Witness)} witnesses, {self.uses} uses, {self.owed} of them "
            f"known to somebody or not to be asked about, {self.arrived} in the midst of a move; free GPUs planned in {self.moving} worlds, {self.moved} of {self.free} where all could be read"
        )


def _heard(world: World) -> Iterator[Witness]:
    if world.untold is not None:
        yield world.untold
    for use in world.uses:
        yield from use.tells
