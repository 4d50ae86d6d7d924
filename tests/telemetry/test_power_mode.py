from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge_mnv2.telemetry.power_mode import PowerMode, run_nvpmodel
from tests.telemetry.heat_trees import NVPMODEL_CONF, Clock
from tests.telemetry.trees import write_tree


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("pmode:0000", "MAXN"),
        ("pmode:0001 fmode:quiet", "10W 2CORE"),
        ("pmode:0002", "15W"),
        ("pmode:0007", "mode 7"),
        ("fmode:quiet", None),
    ],
)
def test_the_file_has_a_number_and_the_configuration_its_name(
    status: str, name: str | None, tmp_path: Path
) -> None:
    write_tree(tmp_path, {"var/lib/nvpmodel/status": status, "etc/nvpmodel.conf": NVPMODEL_CONF})
    assert PowerMode(tmp_path, lambda: None).read() == name


def test_a_change_is_seen_and_a_missing_configuration_leaves_the_number(tmp_path: Path) -> None:
    write_tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002", "etc/nvpmodel.conf": NVPMODEL_CONF})
    mode = PowerMode(tmp_path, lambda: None)
    assert mode.read() == "15W"
    write_tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0000"})
    assert mode.read() == "MAXN"
    (tmp_path / "etc/nvpmodel.conf").unlink()
    write_tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0003"})
    assert mode.read() == "mode 3"
    mode.close()


def test_the_tool_is_asked_once_a_minute_where_there_is_no_file(tmp_path: Path) -> None:
    answers = ["NV Power Mode: MODE_15W_6CORE\n2\n", "NV Power Mode: MAXN\n0\n", None]
    asked: list[str | None] = []
    clock = Clock()

    def ask() -> str | None:
        asked.append(answers[len(asked)])
        return asked[-1]

    mode = PowerMode(tmp_path, ask, clock)
    for name in ("15W 6CORE", "MAXN", None):
        for _ in range(60):
            assert mode.read() == name
            clock.forward(1)
    assert len(asked) == 3


def test_a_file_that_comes_later_is_found_within_a_minute(tmp_path: Path, opened: list[str]) -> None:
    clock = Clock()
    mode = PowerMode(tmp_path, lambda: None, clock)
    for _ in range(60):
        assert mode.read() is None
        clock.forward(1)
    assert len(opened) == 1
    write_tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002", "etc/nvpmodel.conf": NVPMODEL_CONF})
    assert mode.read() == "15W"
    mode.close()


def test_the_real_tool_is_run_with_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_nvpmodel() is None
    tool = tmp_path / "nvpmodel"
    tool.write_text(
        "#!/bin/sh\necho 'NVPM WARN: fan mode is not set!' >&2\necho \"NV Power Mode: 15W\"\necho $1\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    assert run_nvpmodel() == "NV Power Mode: 15W\n-q\n"
    assert PowerMode(tmp_path).read() == "15W"
    monkeypatch.setattr("edge_mnv2.telemetry.power_mode._TIMEOUT_S", 0.2)
    tool.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    assert run_nvpmodel() is None
