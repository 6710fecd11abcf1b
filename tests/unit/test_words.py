"""One word has one meaning: names that were given up stay given up.

The left column is what the code said once; the right one is the word of the field that it says now.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("poolmgr", "webhooks", "bench", "tests", "tools", "e2e", "libhook", "docs", "helm")
ENDINGS = (
    *(".py", ".c", ".h", ".def", ".build", ".sh", ".md"),
    *(
        ".yaml",
        ".yml",
        ".json",
        ".toml",
        ".tpl",
        ".txt",
        ".html",
        ".js",
        ".css",
        ".svg",
        ".lua",
        ".go",
        ".ini",
    ),
)
IN_THE_ROOT = ("Makefile", "pyproject.toml", ".importlinter")
BUILT = re.compile(r"^libhook/build")
RENAMED = re.compile(r"^- .*`\w+` is now `\w+`.*$", re.M)
"""Where CHANGELOG tells of an old name and its new one."""
GIVEN_UP = {
    r"[Dd]oors": "actuators, adapters, dependencies",
    r"Journalist|journalist": "EventReporter",
    r"TurnBack|turned_back|turning_back": "Rollback, rolled_back",
    r"Narrow|narrowed": "Shrink, shrunk",
    r"give_back": "to_shared, return_idle",
    r"CensusMemory|StockMemory|load_memory|MemoryRow": "CensusCache, InventoryCache, learned state",
    r"Sight|sights?": "ObservedGpu",
    r"ByHand|byhand|by_hand": "ManualControl, manual",
    r"NodeAgent\.round|agent\.rounds": "NodeAgent.reconcile, agent.node_agent",
    r"guard\.passed": "guard.validate",
    r"standing_by_because": "not_leading_message",
    r"Shelf|ShelfKey|shelv\w+|take_stock": "GpuGroup, group, inventory",
    r"Objection": "Denial",
    r"in_vain|level_over|_day_off": "overforecast_ratio, level_bias, outlier_day",
    r"fetch_spare": "prefetch",
    r"cluster\.fence": "cluster.fencing",
    r"without_automatic": "recommend_only",
    r"access\.Action|class Action": "Permission (what a caller may ask); the executor's Action stays",
    r"placement\.Room|class Rooms?|rooms_of_pods|inventory\.rooms": "FreeResources, NodeResources",
    r"stages\.state import .*\bEffect": "StageResult; the executor's Effect stays",
    r"\w*latch|LATCH": "futex_lock, the lock of a batch",
    r"neighbours\.[ch]|ph_neighbours\w*": "co_tenants",
    r"ledger\.[ch]|ph_ledger\w*": "allocations; the ledger is the history in SQL",
    r"books\.[ch]|ph_books\w*": "reconcile",
    r"debts\.h|ph_debt\w*|PH_DEBT\w*": "unbilled",
    r"holds\.h|ph_hold_\w*": "throttling",
    r"shown\.c": "reported.c",
    r"start\.[ch]|ph_start|ph_start_at_launch|ph_ensure_started|PH_GATE_START": "init, ph_initialize",
    r"planner[./](?:board|shelving|stock|node_memory|trust|following|flows|drain|ports?|rebalance)": "the planner's wings: "
    "inventory, sizing, stages",
    r"executor[./](?:take|give_back)": "to_passthrough, to_shared",
    r"agent\.(?:rounds|byhand|nodespec)|agent/(?:rounds|reconcile|byhand|nodespec)": "node_agent, decisions, manual, wire",
    r"controller[./](?:ports?|journalist)|\w*/ports?\.py": "interfaces, event_reporter",
    r"Board|board_of|NodeStock|Stock|stock_of": "CandidateIndex, NodeInventory, Inventory",
    r"Spare|ShapeOutlook|drain\.Outlook": "Headroom, DrainForecast, shared_fit",
    r"class (?:Kept|Told|Act)": "IneligibleGpu, ExplanationCache, the agent's Step",
    r"\w+\.care|care=": "risk_aversion",
    r"\w*superseded": "expectations, as Kubernetes' controllers call them",
    r"only_automatic": "Move.recommended",
    r"use_objection|gpu_uses": "usage.users_of, the census",
    r"MemoryDamaged": "LearnedStateDamaged",
    r"offer_of|passthrough import .*\bOffer": "NodeDevices; the agent's Offer stays",
    r"admission import Admission|class Admission\b(?!\()": "AdmissionApp; the planner's Admission stays",
    r"\w*[Ww]ish\w*|\w*WISH\w*": "directive: what an operator wants until somebody ends it; elsewhere, say who asks for what",
    r"tests/victims|victim_\w+|Victim|VICTIM_ON_GPU|mayflies": "programs; a victim is a pod that is evicted",
}
ALIASES = {
    "poolmgr/domain/reasons.py": "old reason codes are read for one release",
    "docs/reference/reasons.md": "the table of these, made from it",
    "poolmgr/planner/sizing/learned_state.py": "reads what an earlier release kept",
    "tests/unit/planner/sizing/test_learning.py": "the same",
    "tests/unit/test_words.py": "this table",
}
"""Where an old name has to be read."""


@cache
def texts() -> dict[str, str]:
    """File → its text, of all that is looked at."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.suffix in ENDINGS]
    files += [*ROOT.glob("*.md"), *(ROOT / name for name in IN_THE_ROOT)]
    named = {str(file.relative_to(ROOT)): file for file in files}
    read = {n: file.read_text() for n, file in named.items() if not BUILT.match(n) and n not in ALIASES}
    return read | {"CHANGELOG.md": RENAMED.sub("", read["CHANGELOG.md"])}


def test_what_users_read_is_looked_at_too() -> None:
    looked_at = {"README.md", "CHANGELOG.md", "helm/poolmgr/values.yaml", "helm/poolmgr/crds/gpupools.yaml"}
    assert looked_at <= set(texts())
    assert {"docs/reference/openapi.json"} <= set(texts())
    assert {".html", ".js", ".css", ".svg"} <= {Path(name).suffix for name in texts()}


@pytest.mark.parametrize("word", GIVEN_UP)
def test_words_that_were_given_up_stay_so(word: str) -> None:
    pattern = re.compile(rf"(?<!\w)(?:{word})\b")
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"say {GIVEN_UP[word]}"


def test_a_word_that_comes_back_is_found() -> None:
    for offence in (
        "self._superseded = {}",
        "class Board:",
        "from poolmgr.planner.stock import x",
        "shelves",
        "class WishedGpu(Schema):",
        "from poolmgr.domain.wishes import NO_WISHES",
    ):
        assert any(re.search(rf"(?<!\w)(?:{word})\b", offence) for word in GIVEN_UP), offence


NAMES = re.compile(r"(?:^|_)(?:told|kept)(?:_|$)|Told|Kept", re.IGNORECASE)
"""In names *told* says nothing of what was said. *Kept* is one thing: what is withheld from others for a reservation,
as `GPUReservation.status.kept`."""
OF_RESERVATIONS = {
    "poolmgr/api/present.py",
    "poolmgr/api/schemas.py",
    "poolmgr/cli/demo_admission.py",
    "poolmgr/cli/reflected_fleet.py",
    "poolmgr/cluster/reservations.py",
    "poolmgr/domain/plan.py",
    "poolmgr/planner/reservation_states.py",
    "poolmgr/planner/sizing/reservations.py",
    "poolmgr/planner/sizing/reserved_cards.py",
    "poolmgr/planner/stages/kept_for_holders.py",
    "poolmgr/planner/stages/vms.py",
    "poolmgr/wire/reservations.py",
    "webhooks/fleet_reader.py",
    "webhooks/fleet_view.py",
    "webhooks/pod.py",
    "webhooks/virtual_machine.py",
}


def names_in(tree: ast.AST) -> Iterator[str]:
    """Whatever a module gives a name, or calls by one."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case (
                ast.arg(arg=name) | ast.keyword(arg=str(name)) | ast.Attribute(attr=name) | ast.Name(id=name)
            ):
                yield name


def test_nothing_is_called_told_and_only_reservations_keep() -> None:
    found = {
        (file, name)
        for file, text in texts().items()
        if file.startswith(("poolmgr/", "webhooks/", "bench/", "tools/")) and file.endswith(".py")
        for name in names_in(ast.parse(text))
        if NAMES.search(name)
    }
    assert {(file, name) for file, name in found if "kept" not in name.lower()} == set()
    assert {file for file, _ in found} == OF_RESERVATIONS


@pytest.mark.parametrize(
    "offence", ["def told(): ...", "self._kept_at = 1", "class KeptRow: ...", "MOST_KEPT = 1"]
)
def test_such_a_name_that_comes_back_is_found(offence: str) -> None:
    assert any(NAMES.search(name) for name in names_in(ast.parse(offence)))
