#!/usr/bin/env bash
# Runs the numeric tests on 64-bit Arm under emulation: the network against TensorFlow's outputs, the
# decoder, the importers, the cameras. For a machine that is not Arm itself; needs root, mmdebstrap and
# qemu-user-static with its binfmt entry, and takes some minutes. Emulation shows equality, not speed.
# Usage: scripts/rehearse_arm64.sh [CPU]   (cortex-a72 is a Raspberry Pi 4, cortex-a76 a 5)
set -Eeuo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
cpu=${1:-cortex-a72}
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
root=$work/root

printf '==> unpacking a Debian 12 for Arm\n'
mmdebstrap --quiet --arch=arm64 --variant=extract --mode=root \
    --include=python3,libstdc++6,libgcc-s1,libgomp1,libgl1,libglib2.0-0,bash,coreutils,dash \
    bookworm "$root"

printf '==> fetching Arm wheels\n'
platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${tag}_aarch64")
done
mapfile -t requirements < <(
    python3 - <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
PYTHON
)
python3 -m pip install --quiet --target "$root/opt/site" "${platforms[@]}" --python-version 3.11 \
    --implementation cp --only-binary=:all: "${requirements[@]}" pytest pytest-timeout hypothesis

printf '==> testing on an emulated %s\n' "$cpu"
mkdir -p -- "$root/opt/edge-mnv2" "$root/tmp"
git archive HEAD | tar -x -C "$root/opt/edge-mnv2"
# What computes, and no more: processes, devices and servers are not the emulator's strength.
# /sys stays away: ONNX Runtime looks for the host's processor there and crashes under emulation.
chroot "$root" env -i PATH=/usr/bin:/bin HOME=/tmp PYTHONPATH=/opt/site:/opt/edge-mnv2 QEMU_CPU="$cpu" \
    LANG=C.UTF-8 python3 -m pytest --rootdir /opt/edge-mnv2 -c /opt/edge-mnv2/pyproject.toml \
    -p no:cacheprovider -q -W default --timeout 900 \
    /opt/edge-mnv2/tests/networks /opt/edge-mnv2/tests/test_overlay.py \
    /opt/edge-mnv2/tests/camera/test_{pictures,video_file,transform,latest,network_clock,timestamp_gaps}.py \
    /opt/edge-mnv2/tests/zoo/test_importers.py /opt/edge-mnv2/tests/zoo/test_weights_file.py
printf '==> equal on Arm\n'
