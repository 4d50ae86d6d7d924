"""What `scripts/service.sh` decides; `scripts/rehearse_service.py` plays it as a whole."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What install.sh gives; systemctl answers with one line of `answers` after the other, and repeats the last.
_GIVEN = """
set -euo pipefail
say() { printf '%s\\n' "$@"; }
note() { :; }
die() { printf 'died: %s\\n' "$1"; exit 1; }
sleep() { :; }
folder=$1 device=${2:-} model=Board venv=/opt/edge-mnv2 dry_run=no
systemctl() {
    case "$*" in
        *is-active* | *InvocationID*)
            read -r state run <"$folder/answers"
            if [[ $* == *InvocationID* ]]; then
                printf '%s\\n' "$run"
                [[ $(wc -l <"$folder/answers") == 1 ]] || sed -i 1d "$folder/answers"
            else
                printf '%s\\n' "$state"
                # An invocation is asked for where the state alone does not decide.
                [[ $state == active || $state == failed || $(wc -l <"$folder/answers") == 1 ]] ||
                    sed -i 1d "$folder/answers"
                [[ $state == active ]]
            fi ;;
    esac
}
. scripts/service.sh
"""


def bash(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", _GIVEN + script, "bash", str(folder), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["inactive", "inactive", "activating B", "active B"], "done: the service runs"),
        # A second installation: the first answers are of the service that ran before.
        (
            ["active A", "active A", "deactivating A", "inactive A", "activating B", "active B"],
            "service runs",
        ),
        (["active A", "active A", "inactive A", "failed B"], "died: the service is failed"),
        (["failed A", "failed A", "activating B", "active B"], "done: the service runs"),
        (["active A", "activating B"], "done: the service has started, and waits for its first picture"),
        (["inactive"], "died: the service is inactive"),
    ],
)
def test_it_waits_for_the_service_that_it_has_started(tmp_path: Path, answers: list[str], said: str) -> None:
    (tmp_path / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    result = bash(tmp_path, "start_service")
    assert said in result.stdout.splitlines()[-1], result
    assert not result.stderr
    if "B" in answers[-1]:
        assert (tmp_path / "answers").read_text().splitlines()[-1].endswith(" B")
        assert len((tmp_path / "answers").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("device", "has_card", "writes_code", "opens_tmp"),
    [
        ("pc", "false", False, False),
        ("pi", "false", False, False),
        ("pc", "true", True, False),
        ("jetson", "false", True, True),
    ],
)
def test_a_gpu_of_nvidia_loosens_what_it_needs(
    tmp_path: Path, device: str, has_card: str, writes_code: bool, opens_tmp: bool
) -> None:
    result = bash(tmp_path, f"has_nvidia_card() {{ {has_card}; }}; device_settings", device)
    lines = result.stdout.splitlines()
    assert lines[:2] == ["# Made by install.sh of edge-mnv2 for: Board", "[Service]"], result
    assert ("MemoryDenyWriteExecute=no" in lines) == writes_code
    assert ("PrivateTmp=no" in lines) == ("ReadWritePaths=/tmp" in lines) == opens_tmp
