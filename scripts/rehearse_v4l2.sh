#!/usr/bin/env bash
# Runs edge-mnv2 on a real V4L2 device: Debian's kernel with its test driver "vivid" in an emulated machine.
# What only a device shows is checked there: opening by path and by number, frames and their age, a wrong
# number, a camera that is pulled while it runs. Needs root, mmdebstrap, qemu-system-x86, cpio and a package
# index; takes some minutes. Usage: scripts/rehearse_v4l2.sh
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
fail() {
    printf 'UNEXPECTED: %s\n' "$*"
    exit 1
}
cd /tmp || exit 1
v4l2-ctl --device /dev/video0 --list-formats | head -n 8
edge doctor | grep -q '/dev/video0' || fail "doctor does not see the camera"

printf '%s\n' "-- by number, into records"
edge run --source 0 --max-frames 8 --jsonl a.jsonl --video a.avi || fail "run --source 0"
python3 - <<'PYTHON' || fail "records"
import json

records = [json.loads(line) for line in open("a.jsonl")]
assert len(records) == 8, len(records)
assert [record["seq"] for record in records] == sorted({record["seq"] for record in records})
ages = [round(record["age_ms"]) for record in records]
print("size", records[0]["image"], "ages in ms", ages)
# The age counts from the driver's time stamp; emulation is slow, but not seconds slow.
assert all(0 < age < 5000 for age in ages)
PYTHON

printf '%s\n' "-- a wrong number"
edge run --source 7 2>error
[ $? -eq 2 ] || fail "a wrong number"
cat error
grep -q 'Present: /dev/video0' error || fail "the message"

printf '%s\n' "-- a camera that is pulled"
edge run --source /dev/video0 --jsonl b.jsonl 2>error >/dev/null &
pid=$!
until [ -s b.jsonl ] && [ "$(wc -l <b.jsonl)" -ge 2 ]; do sleep 0.2; done
v4l2-ctl --device /dev/video0 --set-ctrl=disconnect=1
wait $pid
code=$?
cat error
[ $code -eq 1 ] || fail "exit code $code"
grep -q 'gives no more frames: check its cable' error || fail "the message"
printf 'ALL AS EXPECTED\n'
GUEST
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
