"""`poolmgr doctor` as it is run: its table, its JSON, its exit codes."""

import json

from tests.unit.cli.daily.cluster import Cluster


def test_doctor_lists_what_is_not_fine_and_counts_the_rest(day: Cluster) -> None:
    result = day.run("doctor")
    assert result.exit_code == 1
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["GRADE", "CHECK", "ABOUT", "WHAT", "FIX"]
    assert any(line.startswith("problem   agent") and "kubectl describe node gpu-2" in line for line in lines)
    assert not any(line.startswith("ok ") for line in lines)
    assert " ok, " in lines[-1]
    assert "\x1b" not in result.stdout


def test_json_has_every_finding_and_the_same_exit_code(day: Cluster) -> None:
    result = day.run("doctor", "-o", "json")
    assert result.exit_code == 1
    grades = {(item["check"], item["about"]): item["grade"] for item in json.loads(result.stdout)["items"]}
    assert grades["crds", "CRD gpupools.poolmgr.io"] == "ok"
    assert grades["manager", "Lease poolmgr-manager"] == "ok"


def test_a_cluster_that_does_not_answer_could_not_be_looked_at(day: Cluster) -> None:
    day.transport.down = True
    result = day.run("doctor")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did not answer" in result.stderr


def test_what_may_not_be_read_is_unknown(day: Cluster) -> None:
    day.forbid("DaemonSet")
    assert "unknown   device-plugins" in day.run("doctor").stdout


def test_named_checks_alone_decide_the_exit_code(day: Cluster) -> None:
    assert day.run("doctor").exit_code == 1
    result = day.run("doctor", "--exit-code-of", "crds, manager")
    assert result.exit_code == 0
    assert "problem   agent" in result.stdout, "everything is said all the same"
    assert day.run("doctor", "--exit-code-of", "manager,agent").exit_code == 1


def test_check_that_there_is_not_is_refused(day: Cluster) -> None:
    result = day.run("doctor", "--exit-code-of", "managers", COLUMNS="200")
    assert result.exit_code == 2
    assert "no check is named managers" in result.stderr
