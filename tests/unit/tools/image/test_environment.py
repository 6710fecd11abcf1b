"""The layer of Python packages does not depend on where it was built."""

from pathlib import Path

from tools.image.environment import take_commands_out


def test_no_trace_is_left_of_commands_that_name_the_builders_interpreter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/httpx").write_text("#!/builder/.venv/bin/python\n")
    record = tmp_path / "httpx-0.28.1.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("bin/httpx,sha256=bfx6,298\nbinary.py,sha256=aa,1\nhttpx/bin/x.py,sha256=bb,2\n")
    take_commands_out(tmp_path)
    assert not (tmp_path / "bin").exists()
    assert record.read_text() == "binary.py,sha256=aa,1\nhttpx/bin/x.py,sha256=bb,2\n"
