#!/usr/bin/env bash
# Runs edge-mnv2 on a real V4L2 device: Debian's kernel with its test driver "vivid" in an emulated machine.
# What only a device shows is checked there: the list of cameras, formats, sizes, rates and controls that are
# set or refused, timestamps and age, a device that is in use or forbidden, one that stalls, is pulled, and
# comes back. Needs root, mmdebstrap, qemu-system-x86, cpio and a package index; takes some minutes.
# Usage: scripts/rehearse_v4l2.sh
set -Eeuo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
root=$work/root

printf '==> unpacking a Debian 12 with its kernel\n'
mmdebstrap --quiet --variant=extract --mode=root \
    --include=python3,libstdc++6,libgcc-s1,libgomp1,libgl1,libglib2.0-0,bash,coreutils,dash,kmod,mount,v4l-utils,grep,linux-image-amd64 \
    bookworm "$root"
kernel=$(basename -- "$root"/boot/vmlinuz-*)
version=${kernel#vmlinuz-}
mv -- "$root/boot/$kernel" "$work/vmlinuz"
# Of the modules only those that vivid needs.
chroot "$root" /sbin/depmod "$version"
mapfile -t needed < <(chroot "$root" /sbin/modprobe --set-version "$version" --show-depends vivid |
    awk -v root="$root" '{ print root $2 }')
mkdir -- "$work/modules"
cp -- "${needed[@]}" "$work/modules"
rm -rf -- "${root:?}"/boot "${root:?}"/lib/modules "${root:?}"/usr/share/{doc,man,locale}
mkdir -p -- "$root/opt/modules"
cp -- "$work"/modules/* "$root/opt/modules"
printf '%s\n' "${needed[@]##*/}" >"$root/opt/modules/order"

printf '==> installing the package\n'
python_version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 -m pip wheel --quiet --no-deps --wheel-dir "$work/dist" .
python3 -m pip install --quiet --target "$root/opt/site" --python-version "$python_version" \
    --implementation cp --only-binary=:all: --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 "$work"/dist/*.whl

cat >"$root/opt/guest.sh" <<'GUEST'
# Runs inside the machine; the last line says whether all was as expected.
edge() { python3 -m edge_mnv2 "$@"; }
control() { v4l2-ctl --device /dev/video0 --set-ctrl="$1"; }
fail() {
    printf 'UNEXPECTED: %s\n' "$*"
    exit 1
}
# refused CODE WORDS URI: the probe of a URI ends with this exit code and a message with these words.
refused() {
    edge cameras probe "$3" >/dev/null 2>error
    code=$?
    cat error
    [ $code -eq "$1" ] || fail "exit code $code of $3"
    grep -q -- "$2" error || fail "the message for $3"
    ! grep -q -i 'warn\|global cap' error || fail "OpenCV speaks too"
}
# more_than PATTERN COUNT: waits until more lines of the records match.
more_than() {
    deadline=$((SECONDS + 120))
    until [ "$(grep -c "$1" b.jsonl 2>/dev/null || :)0" -gt "${2}0" ]; do
        [ $SECONDS -lt $deadline ] || fail "no more of $1"
        sleep 0.5
    done
}
# The packages are only unpacked here: nobody made the groups.
printf 'root:x:0:\nvideo:x:44:\n' >/etc/group
cd /tmp || exit 1
edge doctor | grep -q '/dev/video0' || fail "doctor does not see the camera"

printf '%s\n' "-- the list"
edge cameras >list || fail "cameras"
cat list
grep -q 'vivid' list || fail "its name"
grep -q '^/dev/video0$' list || fail "its URI"
edge cameras --json >list.json || fail "cameras --json"
python3 - <<'PYTHON' || fail "the list as JSON"
import json
import re
import subprocess

(camera,) = json.load(open("list.json"))
tool = subprocess.run(["v4l2-ctl", "-d", "0", "--list-formats-ext"], capture_output=True, text=True).stdout
ours = {(mode["format"], mode["width"], mode["height"], tuple(mode["fps"])) for mode in camera["modes"]}
theirs = set()
for block in re.split(r"\n\t\[\d+\]: ", tool)[1:]:
    for size in block.split("Size: Discrete ")[1:]:
        width, height = map(int, size.split(None, 1)[0].split("x"))
        rates = {float(rate) for rate in re.findall(r"\(([\d.]+) fps\)", size)}
        theirs.add((block[1:5], width, height, tuple(sorted(rates, reverse=True))))
formats = {mode[0] for mode in ours}
assert ours == {mode for mode in theirs if mode[0] in formats}, ours ^ theirs
print(len(ours), "formats and sizes in", sorted(formats), "are those that v4l2-ctl lists")
PYTHON

printf '%s\n' "-- by number, into records"
edge run --source 0 --max-frames 8 --jsonl a.jsonl --video a.avi || fail "run --source 0"
python3 - <<'PYTHON' || fail "records"
import json

records = [json.loads(line) for line in open("a.jsonl")]
records = [record for record in records if "age_ms" in record]
assert len(records) == 8, len(records)
assert [record["seq"] for record in records] == sorted({record["seq"] for record in records})
ages = [round(record["age_ms"]) for record in records]
print("size", records[0]["image"], "ages in ms", ages)
# The age counts from the driver's time stamp; emulation is slow, but not seconds slow.
assert all(0 < age < 15000 for age in ages)
PYTHON

printf '%s\n' "-- a format, a size, a rate, controls, and the driver's timestamps"
uri='/dev/video0?format=UYVY&size=320x180&fps=25&brightness=200&test_pattern=100%25+red'
# Stamped when the exposure begins, as a sensor does it: this driver's other way lies in the future.
edge cameras probe "$uri&timestamp_source=start_of_exposure" --seconds 4 --json >probe.json || fail "probe"
v4l2-ctl --device /dev/video0 --get-fmt-video --get-ctrl=brightness,test_pattern >set
grep -q "'UYVY'" set || fail "the format"
grep -q 'brightness: 200' set || fail "the brightness"
grep -q '100% Red' set || fail "the test pattern"
python3 - <<'PYTHON' || fail "what was measured"
import json

seen = json.load(open("probe.json"))
print({key: seen[key] for key in ("sizes", "fps", "interval_ms", "age_ms", "first_frame_s", "problems")})
assert seen["sizes"] == [[320, 180]]
assert 20 < seen["fps"] < 26, seen["fps"]
assert 0 < seen["age_ms"]["p50"] < 1000
PYTHON
python3 - <<'PYTHON' || fail "timestamps and colours"
import time

from camera.uri import raw_source

source = raw_source("0?timestamp_source=1&test_pattern=7&osd_text_mode=none")
source.open()
for _ in range(10):
    frame = source.read()
    age_ms = (time.monotonic_ns() - frame.captured_ns) / 1e6
    # Arrival is no later than its reading; the driver's time lies before that.
    assert 0 < age_ms < 1000, age_ms
blue, green, red = frame.image.reshape(-1, 3).mean(axis=0)
assert red > 150 and blue < 80 and green < 80, (blue, green, red)
source.close()
print(f"age of the last frame {age_ms:.1f} ms, it is red")
PYTHON

printf '%s\n' "-- wrong requests"
refused 2 'does not offer the size 1000x1000. It can: ' '/dev/video0?size=1000x1000&format=YUYV'
refused 2 'format MJPG is not offered. Offered: BGR3' '/dev/video0?format=MJPG'
refused 2 'does not offer 60 fps. It can: YUYV 640x480 at 25' '/dev/video0?size=640x480&fps=60&format=YUYV'
refused 2 'did you mean brightness' '/dev/video0?brightnes=1'
refused 2 'it can be 0 to 255' '/dev/video0?brightness=256'
refused 2 'Present: /dev/video0 (vivid)' 7
mkdir /dev/v4l && ln -s /dev/null /dev/v4l/a-link
refused 2 'is no V4L2 device' /dev/v4l/a-link
rm -r /dev/v4l

printf '%s\n' "-- in use, and forbidden"
v4l2-ctl --device /dev/video0 --stream-mmap --stream-count=100000 >/dev/null 2>&1 &
user=$!
until v4l2-ctl --device /dev/video0 --set-fmt-video=width=320 2>&1 | grep -q busy; do sleep 0.2; done
refused 1 "in use by v4l2-ctl (pid $user)" /dev/video0
edge cameras | grep -q "pid $user" || fail "the list does not say who uses it"
kill $user
wait $user
chgrp video /dev/video0
chmod 660 /dev/video0
python3 - >error 2>&1 <<'PYTHON'
import os

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
from camera.uri import raw_source

raw_source("0").open()
PYTHON
tail -n 1 error
grep -q 'No permission to use /dev/video0: sudo usermod -aG video' error || fail "the group to join"

for isolation in process thread; do
    printf '%s\n' "-- a camera that stalls, is pulled, and comes back; isolation: $isolation"
    python3 /opt/comes_and_goes.py $isolation || fail "comes and goes"
done

printf '%s\n' "-- a run goes on when its camera is pulled and plugged in again"
python3 -m edge_mnv2 run --source '/dev/video0?size=320x180' --jsonl b.jsonl >/dev/null 2>error &
pid=$!
more_than '"detections"' 0
control disconnect=1
more_than '"state": *"lost"' 0
frames=$(grep -c '"detections"' b.jsonl)
echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
more_than '"detections"' $((frames + 2)) # one may have been in hand
kill -TERM $pid
wait $pid || fail "run ended with $?"
grep '"state"' b.jsonl

printf '%s\n' "-- without supervision it is an error"
python3 - <<'PYTHON' || fail "the raw source"
import subprocess
import time

from camera.errors import CameraError
from camera.uri import raw_source

source = raw_source("0")
source.open()
source.read()
subprocess.run(["v4l2-ctl", "-d", "0", "--set-ctrl=disconnect=1"], check=True)
began = time.monotonic()
try:
    while time.monotonic() - began < 30:
        source.read()
except CameraError as error:
    print(error, f"({1000 * (time.monotonic() - began):.0f} ms)")
    assert "was unplugged or lost its power" in str(error)
else:
    raise SystemExit("it still gives frames")
finally:
    source.close()
PYTHON
echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
edge cameras | grep -q 'No camera was found' || fail "a list with a camera that is gone"
printf 'ALL AS EXPECTED\n'
GUEST
cat >"$root/opt/comes_and_goes.py" <<'PYTHON'
"""Reads a supervised camera while its device stalls, is unplugged and comes back."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from camera import CameraOptions, CameraState, open_source

DRIVER = Path("/sys/bus/platform/drivers/vivid")
states, changed, stop = [], threading.Condition(), threading.Event()


def noted(change):
    with changed:
        states.append(change)
        changed.notify_all()
        print(f"   {change.state.value}: {change.reason}", flush=True)


def wait_for(state, since):
    """Return how many seconds after `since` a state was reached that came after it."""
    with changed:
        found = changed.wait_for(
            lambda: [one for one in states if one.state == state and one.at_ns > since], timeout=60
        )
    assert found, f"never {state.value}"
    return (found[0].at_ns - since) / 1e9


def control(setting):
    subprocess.run(["v4l2-ctl", "-d", "0", f"--set-ctrl={setting}"], check=True)


def read():
    try:
        while not stop.is_set():
            source.read().release()
    except BaseException as error:
        if not stop.is_set():
            print("the reader ended:", repr(error), flush=True)


source = open_source("/dev/video0?size=320x180", CameraOptions(isolation=sys.argv[1]), noted)
source.open()
reader = threading.Thread(target=read)
reader.start()
wait_for(CameraState.LIVE, 0)

now = time.monotonic_ns()
control("percentage_of_dropped_buffers=100")
print(f"stall noticed after {wait_for(CameraState.STALLED, now):.2f} s")
control("percentage_of_dropped_buffers=0")
now = time.monotonic_ns()
print(f"live again after {wait_for(CameraState.LIVE, now):.2f} s")

now = time.monotonic_ns()
control("disconnect=1")
print(f"loss noticed after {wait_for(CameraState.LOST, now):.2f} s")
(DRIVER / "unbind").write_text("vivid.0")
wait_for(CameraState.RECONNECTING, now)
(DRIVER / "bind").write_text("vivid.0")
now = time.monotonic_ns()
print(f"live again after {wait_for(CameraState.LIVE, now):.2f} s on", *Path("/dev").glob("video*"))

stop.set()
source.close()
reader.join(30)
assert not reader.is_alive()
PYTHON
cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/opt/site PYTHONUNBUFFERED=1 LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs t /dev/shm
mount -t tmpfs t /tmp
exec </dev/console >/dev/ttyS0 2>&1
while read -r module; do
    case $module in
        vivid.ko*) insmod "/opt/modules/$module" n_devs=1 node_types=0x1 num_inputs=1 input_types=0 ;;
        *) insmod "/opt/modules/$module" ;;
    esac
done </opt/modules/order
bash /opt/guest.sh
echo o >/proc/sysrq-trigger
sleep 5
INIT
chmod +x -- "$root/init"

printf '==> starting the machine\n'
(cd -- "$root" && find . | cpio --quiet --create --format=newc) >"$work/root.cpio"
timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 4096 -nic none -nographic \
    -no-reboot -kernel "$work/vmlinuz" -initrd "$work/root.cpio" \
    -append 'console=ttyS0 quiet rdinit=/init panic=-1' </dev/null | tee "$work/console"
grep -q 'ALL AS EXPECTED' "$work/console"
printf '==> a V4L2 device behaves\n'
