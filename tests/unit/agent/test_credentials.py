"""Kubeconfigs and service accounts as credentials."""

from pathlib import Path

import pytest
import yaml

from poolmgr.agent.credentials import from_kubeconfig, in_cluster
from poolmgr.domain.errors import Rejected


def kubeconfig(folder: Path, user: dict[str, object], **cluster: object) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://10.0.2.2:6443/", **cluster}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def test_token_of_a_kubeconfig(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path, {"token": "abc"}))
    assert (found.server, found.bearer()) == ("https://10.0.2.2:6443", "abc")


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    found = from_kubeconfig(kubeconfig(tmp_path, {"tokenFile": "token"}))
    assert found.bearer() == "first"
    (tmp_path / "token").write_text("second\n")
    assert found.bearer() == "second"


def test_a_login_by_another_program_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="give the agent one with a token or certificate"):
        from_kubeconfig(kubeconfig(tmp_path, {"exec": {"command": "aws"}}))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="nowhere"):
        from_kubeconfig(tmp_path / "nowhere")
    (tmp_path / "half").write_text("clusters: []\n")
    with pytest.raises(Rejected, match="half"):
        from_kubeconfig(tmp_path / "half")


def test_outside_of_a_pod_a_kubeconfig_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="--kubeconfig"):
        in_cluster({}, tmp_path)
