"""One word has one meaning: names that were given up stay given up.

The left column is what the code said once; the right one is the word of the field that it says now.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("poolmgr", "webhooks", "bench", "tests", "tools")
GIVEN_UP = {
    r"[Dd]oors": "actuators, adapters, dependencies",
    r"Journalist|journalist": "EventReporter",
    r"TurnBack|turned_back|turning_back": "Rollback, rolled_back",
    r"Narrow|narrowed": "Shrink, shrunk",
    r"give_back": "to_shared, return_idle",
    r"CensusMemory|StockMemory|load_memory|MemoryRow": "CensusCache, InventoryCache, learned state",
    r"Sight|sights?": "ObservedGpu",
    r"_Wish|_wish\w*|wishes": "_Target, asks, claims",
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
}
ALIASES = {
    "poolmgr/planner/sizing/learned_state.py": "reads what an earlier release kept",
    "tests/unit/planner/sizing/test_learning.py": "the same",
    "tests/unit/test_words.py": "this table",
}
"""Where an old name has to be read."""


@pytest.mark.parametrize("word", GIVEN_UP)
def test_words_that_were_given_up_stay_so(word: str) -> None:
    pattern = re.compile(rf"(?<!\w)(?:{word})\b")
    found = []
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            name = str(file.relative_to(ROOT))
            if name not in ALIASES:
                found += [
                    f"{name}:{number}: {line.strip()}"
                    for number, line in enumerate(file.read_text().splitlines(), 1)
                    if pattern.search(line)
                ]
    assert not found, f"say {GIVEN_UP[word]}"
