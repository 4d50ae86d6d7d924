#!/usr/bin/env bash
# Rehearses install.sh on a new Debian: makes a minimal root directory, puts a clone of HEAD into
# it, and plays three users. Slow (minutes), needs root, mmdebstrap and git; for a foreign machine
# architecture also arch-test and qemu-user-static with its binfmt entry.
set -Eeuo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/rehearse_install.sh [--suite NAME] [--arch NAME] [--mirror URI] [--keep]

  --suite NAME   the Debian release (default: bookworm)
  --arch NAME    amd64, arm64, ... (default: this machine's)
  --mirror URI   where Debian packages come from (default: where this machine's come from)
  --keep         keep the root directory, and say where it is
TEXT
}

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
suite=bookworm
arch=$(dpkg --print-architecture)
mirror=
keep=no

die() {
    printf 'rehearse_install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

say() { printf '\n### %s\n' "$1"; }

while (($#)); do
    case $1 in
        --suite | --arch | --mirror)
            [[ -n ${2:-} ]] || die "$1 wants a value" 2
            declare "${1#--}=$2"
            shift
            ;;
        --keep) keep=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) die "unknown option: $1; --help lists the options" 2 ;;
    esac
    shift
done

((EUID == 0)) || die "this needs root"
type -P mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
if [[ $arch != $(dpkg --print-architecture) ]]; then
    arch-test "$arch" >/dev/null 2>&1 ||
        die "$arch programs do not run here: apt-get install arch-test qemu-user-static"
fi
# shellcheck disable=SC2016 # apt-get expands this
[[ -n $mirror ]] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n 1p)

work=$(mktemp -d)
root=$work/root

# The mounts belong to namespaces that end with their command, so there is nothing to unmount.
finish() {
    if [[ $keep == yes ]]; then
        printf 'kept: %s\n' "$root"
    else
        rm -rf --one-file-system -- "$work"
    fi
}
trap finish EXIT
trap 'die "failed in line $LINENO"' ERR

# What this machine needs to reach its package sources, the new one needs too.
carry_settings() {
    apt-config dump Acquire | grep -E '^Acquire::(Check-|http|https|Retries)' >"$work/apt.conf" || true
    mmdebstrap --quiet --mode=root --variant=minbase --architectures="$arch" --aptopt="$work/apt.conf" \
        --include=ca-certificates,python3,sudo "$suite" "$root" "$mirror"
    local file
    for file in /etc/hosts /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [[ ! -e $file ]] || cp -L -- "$file" "$root$file"
    done
    carried=()
    local name
    while read -r name; do
        # A path that is not there would only confuse.
        [[ ${!name} != /* || -e $root${!name} ]] || continue
        carried+=("$name=${!name}")
    done < <(compgen -e | grep -E '^(PIP_.*|SSL_CERT_.*|.*_proxy|.*_PROXY)$')
}

# add_user NAME: with an empty home but for a clone of this checkout.
add_user() {
    chroot "$root" useradd --create-home --skel /nonexistent --shell /bin/bash "$1"
    git clone --quiet -- "$checkout" "$root/home/$1/edge-mnv2"
    chroot "$root" chown -R "$1:" "/home/$1/edge-mnv2"
}

# as USER COMMAND: runs a shell command in USER's home. /sys stays unmounted: under qemu's
# emulation of other processors, ONNX Runtime trips over the description of the real one.
as() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --pid --fork --kill-child -- bash -c '
        root=$1
        shift
        mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && exec chroot "$root" "$@"' \
        as "$root" runuser -u "$1" -- env -i "${carried[@]}" USER="$1" LANG=C.UTF-8 \
        QEMU_CPU=cortex-a72 PATH=/usr/local/bin:/usr/bin:/bin \
        bash -c "export HOME=~$1; cd && $2" </dev/null
}

# expect TEXT: fails unless the last output has TEXT.
expect() { grep -qF -- "$1" "$work/output" || die "this was expected and is not there: $1"; }

say "a new Debian: $suite, $arch"
carried=()
packages_beforehand=no
carry_settings
add_user guest
add_user owner
printf 'owner ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/owner"
if ! as owner 'sudo -n true' 2>/dev/null; then
    # qemu's binfmt entry commonly lets no emulated program change its user.
    printf 'sudo does not work under this emulation: the packages are installed beforehand\n'
    packages_beforehand=yes
fi

say "a user who may not use sudo is told what to do"
status=0
as guest 'edge-mnv2/install.sh --demo' 2>&1 | tee "$work/output" || status=$?
((status == 1)) || die "exit status $status instead of 1"
expect "As root run: apt-get update && apt-get install --yes --no-install-recommends python3-venv libgl1 libglib2.0-0"

say "a user who may, gets the demo"
if [[ $packages_beforehand == yes ]]; then
    as root 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive; apt-get update && apt-get install \
        --yes --no-install-recommends python3-venv libgl1 libglib2.0-0' >"$work/apt.log" 2>&1
fi
started=$SECONDS
as owner 'edge-mnv2/install.sh --demo' 2>&1 | tee "$work/output"
as owner 'cd edge-mnv2/out && ls -l && test -s demo.jsonl && test -s demo.mp4'
printf 'took %s s\n' "$((SECONDS - started))"

say "now that nothing is missing, the first user needs no root"
as guest 'edge-mnv2/install.sh && ~/.local/bin/edge-mnv2 --version' 2>&1 | tee "$work/output"
expect ".local/bin is not in your PATH"

say "the second time it is quick"
started=$SECONDS
as guest 'edge-mnv2/install.sh' 2>&1 | tee "$work/output"
expect "is up to date"
printf 'took %s s\n' "$((SECONDS - started))"

say "and it leaves as it came"
as guest 'edge-mnv2/install.sh --uninstall && test ! -e ~/.local/bin/edge-mnv2 && test ! -e ~/.local/share/edge-mnv2'

say "rehearsed: all as expected"
