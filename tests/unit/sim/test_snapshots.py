"""A snapshot as a file says what the snapshot says."""

from dataclasses import replace

from poolmgr.sim.snapshots import decode_snapshot, encode_snapshot
from tests.builders import gpu, node, snapshot


def test_snapshot_is_read_back_equal_with_what_is_lent() -> None:
    plain = snapshot(node(gpu(node="n1"), name="n1"), node(gpu(node="n2"), name="n2"))
    lent = replace(plain, nodes=(plain.nodes[0], replace(plain.nodes[1], best_effort_only=True)))
    for taken in (plain, lent):
        assert decode_snapshot(encode_snapshot(taken)) == taken


def test_file_of_before_nodes_could_be_lent_is_still_read() -> None:
    text = encode_snapshot(snapshot(node(gpu())))
    older = text.replace(b'"best_effort_only":false,', b"")
    assert older != text
    assert decode_snapshot(older).nodes[0].best_effort_only is False
