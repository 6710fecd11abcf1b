"""One node with GPUs, the hidden truth of who uses them, and what each witness makes of it. Values and how they are drawn.

A `Use` is true. Each witness of its kind either tells of it, or can be read and is silent, or cannot be read at all. A GPU
is `owed` its rest when one of them tells or cannot be read. Nothing is owed where all of them are silent: nobody
could know.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
    MODESET = "nvidia-drm's modesetting"
    PERSISTENCE = "NVML, of the persistence mode"
    VIRTUAL_FUNCTIONS = "SR-IOV's count of virtual functions"
    MEDIATED = "mediated devices in sysfs"
    BUS = "the card's configuration space"
    KUBELET_OWN = "the kubelet, of our own devices"
    KUBELET_OTHERS = "the kubelet, of other plugins' devices"
    KUBELET_CLAIM = "the kubelet, of ResourceClaims"
    GRANT = "our plugin, of what it has just given away"
    ANNOTATION = "HAMi's annotation on the pod"
    REQUEST = "the pod's request for a GPU"
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
    CONSOLE = (Mode.SHARED, {W.CONSOLE})
    MODESET = (Mode.SHARED, {W.MODESET})
    PERSISTENCE = (Mode.SHARED, {W.PERSISTENCE})
    VGPU = (Mode.SHARED, {W.VIRTUAL_FUNCTIONS, W.MEDIATED})
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
ARRIVE = (None, None, None, Step.FENCE, Step.DRAIN, Step.DETACH)
"""When a use begins: before anybody looks, or once a move of its GPU is at this step."""


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

    def deaf_to(self, witness: Witness | None) -> "World":
        """As somebody meets it who does not heed one witness."""
        return replace(self, uses=tuple(replace(use, tells=use.tells - {witness}) for use in self.uses))

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
    def hangs_on_the_dark(self) -> bool:
        """Whoever would tell of some use cannot be asked, and nobody else tells."""
        dark = self.dark
        return self.untold is None and any(u.tells <= dark and dark & u.kind.witnesses for u in self.uses)

    @property
    def owed(self) -> tuple[Use, ...]:
        return tuple(use for use in self.uses if self.is_owed(use))

    @property
    def clear(self) -> bool:
        """Everybody can be asked, and nobody contradicts anybody."""
        return (
            not self.unreadable
            and self.untold is None
            and all(u.tells == u.kind.witnesses for u in self.uses)
        )

    @property
    def free(self) -> tuple[int, ...]:
        """GPUs without a use on the side that is to give some."""
        return tuple(i for i in self.indices if self.use_of(i) is None and self.modes[i] is self.wanted.other)


@st.composite
def worlds(draw: st.DrawFn, hang_on: Witness | None = None) -> World:
    """`hang_on`: who alone tells of the first GPU's use, in worlds where everybody can be asked."""
    first = None
    wanted = draw(st.sampled_from((Mode.PASSTHROUGH, Mode.PASSTHROUGH, Mode.SHARED)))
    if hang_on is not None:
        kinds = [kind for kind in Kind if hang_on in kind.witnesses] or [Kind.COMPUTE]
        first = Use(0, draw(st.sampled_from(kinds)), frozenset({hang_on}), between_runs=draw(st.booleans()))
        wanted = first.kind.mode.other
    modes = (wanted.other, *draw(st.lists(st.sampled_from(Mode), min_size=1, max_size=2)))
    untold = draw(st.sampled_from((None,) * 8 + OF_THE_REPORT))
    if first is not None:
        untold = hang_on if hang_on in OF_THE_REPORT else None
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
    dark = hang_on is None and draw(st.integers(1, 4)) == 4
    return World(modes, tuple(uses), draw(few) if dark else frozenset(), untold, wanted)


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
    # What withdraws a GPU from VMs keeps them from coming later; a card is not divided or looked at meanwhile either.
    comes = kind.mode is Mode.SHARED and kind in (Kind.COMPUTE, Kind.RENDER, Kind.SLICE, Kind.OTHER_PLUGIN)
    arrives = draw(st.sampled_from(ARRIVE)) if comes and not stands_still else None
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

    def count(self, world: World, planned: frozenset[int]) -> None:
        self.worlds += 1
        self.uses += len(world.uses)
        self.owed += len(world.owed)
        self.witnesses.update(_heard(world))
        self.moving += bool(planned & set(world.free))
        if world.clear:
            self.free += len(world.free)
            self.moved += len(planned & set(world.free))

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {len(self.witnesses)} of {len(Witness)} witnesses, {self.uses} uses, {self.owed} of them "
            f"known to somebody or not to be asked about; free GPUs planned in {self.moving} worlds, {self.moved} of {self.free} where all could be read"
        )


def _heard(world: World) -> Iterator[Witness]:
    if world.untold is not None:
        yield world.untold
    for use in world.uses:
        yield from use.tells
