"""What the settings say of records that outlive a run."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from edge_mnv2.config import read_config
from edge_mnv2.errors import RequestError
from edge_mnv2.sinks.rotating_file import Rotation
from edge_mnv2.sinks.specs import jsonl_rotation, jsonl_spec
from tests.conftest import Command


@pytest.mark.parametrize(
    ("flags", "rotation"),
    [
        ({}, None),
        ({"jsonl_append": False}, None),
        ({"jsonl_append": True}, Rotation()),
        ({"jsonl_append": True, "jsonl": "-"}, None),
        ({"jsonl_rotate_mb": 10}, Rotation(10_000_000)),
        ({"jsonl_rotate_hours": 0.5}, Rotation(None, 1800)),
        (
            {"jsonl_rotate_mb": 1, "jsonl_rotate_hours": 24, "jsonl_keep_mb": 100},
            Rotation(1_000_000, 86_400, 100_000_000),
        ),
    ],
)
def test_settings_become_a_rotation(flags: dict[str, object], rotation: Rotation | None) -> None:
    settings = read_config(None, {"source": "test://", "jsonl": "out.jsonl", **flags})
    assert jsonl_rotation(settings) == rotation


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"jsonl": "-", "jsonl_rotate_mb": 1}, "jsonl: standard output cannot be rotated; give a file."),
        (
            {"jsonl_append": False, "jsonl_rotate_hours": 1},
            "jsonl_append: a file that rotates is always appended to.",
        ),
        ({"jsonl_keep_mb": 9}, "jsonl_keep_mb: give jsonl_rotate_mb, too"),
        ({"jsonl_keep_mb": 9, "jsonl_rotate_hours": 1}, "jsonl_keep_mb: give jsonl_rotate_mb, too"),
        ({"jsonl_keep_mb": 9, "jsonl_rotate_mb": 10}, "it must be at least jsonl_rotate_mb"),
        ({"jsonl_rotate_mb": 0}, "jsonl_rotate_mb: input should be greater than or equal to 1, received 0"),
        ({"jsonl_rotate_hours": 0}, "jsonl_rotate_hours: input should be greater than 0"),
        ({"jsonl_rotate_mb": "1 GB"}, "jsonl_rotate_mb: input should be a valid integer, received '1 GB'"),
    ],
)
def test_a_rotation_that_cannot_be_is_refused(flags: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_config(None, {"source": "test://", **flags})
    assert message in str(refused.value)
    with pytest.raises(RequestError) as refused:
        read_config(None, {"cameras": {"door": {"source": "test://", **flags}}})
    assert "cameras.door" in str(refused.value)
    assert message.removeprefix("jsonl: ") in str(refused.value)


def test_each_camera_may_say_the_half_of_it() -> None:
    cameras = {"door": {"source": "test://", "jsonl_rotate_mb": 5}, "yard": {"source": "test://?"}}
    settings = read_config(None, {"cameras": {"door": cameras["door"]}, "jsonl_keep_mb": 50})
    assert settings.cameras is not None
    assert jsonl_rotation(settings.cameras["door"]) == Rotation(5_000_000, None, 50_000_000)
    with pytest.raises(RequestError, match=r"cameras\.yard.*jsonl_keep_mb: give jsonl_rotate_mb"):
        read_config(None, {"cameras": cameras, "jsonl_keep_mb": 50})


def test_an_output_with_another_rotation_is_another_output() -> None:
    """A running daemon replaces what changed, and nothing else."""
    path = Path("out.jsonl")
    assert jsonl_spec(path, rotation=Rotation(1)) == jsonl_spec(path, rotation=Rotation(1))
    assert jsonl_spec(path, rotation=Rotation(1)) != jsonl_spec(path, rotation=Rotation(2))
    assert jsonl_spec(path, rotation=Rotation()) != jsonl_spec(path) != jsonl_spec(path, masks=True)


def test_runs_rotate_and_append_as_the_file_says(tmp_path: Path, command: Command) -> None:
    (tmp_path / "run.yaml").write_text(
        "source: test://?size=64x48&frames=30&fps=30\njsonl: out/r.jsonl\njsonl_rotate_hours: 0.00005\n"
    )
    for _ in range(2):
        done = command("run", "--config", "run.yaml")
        assert done.returncode == 0, done.stderr
    files = [*sorted((tmp_path / "out").glob("r-*.jsonl")), tmp_path / "out" / "r.jsonl"]
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    seqs = [record["seq"] for record in found if "seq" in record]
    assert len(files) > 3
    assert sum(after < before for before, after in pairwise(seqs)) == 1, "the second run begins at 0"
    assert [record["time"] for record in found] == sorted(record["time"] for record in found)
