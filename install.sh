#!/usr/bin/env bash
# Sets up edge-mnv2 on a device or on a developer's machine. ./install.sh --help says how,
# docs/install.md says what it does and why.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for those who type: sh install.sh
set -Eeuo pipefail

usage() {
    cat <<'TEXT'
usage: ./install.sh [--demo | --test | --dev | --service | --uninstall] [option ...]

Sets up edge-mnv2 in a Python environment of its own. It may be run again at any time: what is
already in place is left alone, what an interrupted run left half made is made anew.

  (nothing)          install for use: the environment in ~/.local/share/edge-mnv2, the command
                     as ~/.local/bin/edge-mnv2
  --demo             set up in this directory (.venv), then run the demo; results in out/
  --test             set up in this directory with the tools of development, then run all checks
  --dev              the same without running the checks
  --service          install for the whole system, into /opt/edge-mnv2, make a systemd service of it,
                     and start that; with sudo
  --uninstall        remove the environments, the links and the service that this script made

  --prefix DIR       put the environment into DIR (with --uninstall: remove that one only);
                     no link is made
  --python EXE       the Python to use, 3.10 or newer (default: python3)
  --yes              install missing Debian packages without asking; without a terminal there
                     is no question either
  --dry-run          say what was found and what would be done, change nothing
  --detect-root DIR  look below DIR, not below /, for what kind of machine this is (for tests)
  --help             this text

Exit status: 0 done, 1 failed, 2 wrong option.
TEXT
}

# ---------------------------------------------------------------- speaking

step="starting"

# say TEXT: announces a step; a failure from here on is reported as a failure of this step.
say() {
    step=$1
    printf '==> %s\n' "$1"
}

note() { printf '    %s\n' "$@"; }

# die MESSAGE [WHAT_TO_DO ...]
die() {
    printf 'install.sh: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '    %s\n' "$@" >&2
    exit 1
}

bad_option() {
    printf 'install.sh: %s; --help lists the options\n' "$1" >&2
    exit 2
}

on_error() {
    # A failed $(...) comes by twice, first inside: once is enough.
    [[ $BASHPID == "$$" ]] || exit "$1"
    die "failed (exit status $1) while: $step" "The lines above say why."
}
trap 'on_error $?' ERR
trap 'die "interrupted while: $step" "Run it again: it makes good what is half done."' INT TERM

# ---------------------------------------------------------------- options

mode=install
prefix=
python_option=
assume_yes=no
dry_run=no
detect_root=

set_mode() {
    [[ $mode == install || $mode == "$1" ]] || bad_option "--$mode and --$1 exclude each other"
    mode=$1
}

parse_options() {
    while (($#)); do
        case $1 in
            --demo | --test | --dev | --service | --uninstall) set_mode "${1#--}" ;;
            --prefix=* | --python=* | --detect-root=*)
                set -- "${1%%=*}" "${1#*=}" "${@:2}"
                continue
                ;;
            --prefix | --python | --detect-root)
                [[ -n ${2:-} ]] || bad_option "$1 wants a value"
                case $1 in
                    --prefix) prefix=$(realpath -m -- "$2") ;;
                    --python) python_option=$2 ;;
                    --detect-root) detect_root=$(realpath -m -- "$2") ;;
                esac
                shift
                ;;
            --yes) assume_yes=yes ;;
            --dry-run) dry_run=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) bad_option "unknown option: $1" ;;
        esac
        shift
    done
}

# Nothing of the caller's Python set-up may leak in: not an active virtual environment, not a
# module path, not a pip that installs elsewhere. Where pip finds packages stays as it is set.
clean_environment() {
    if [[ -n ${VIRTUAL_ENV:-} ]]; then
        PATH=:$PATH:
        PATH=${PATH//":$VIRTUAL_ENV/bin:"/:}
        PATH=${PATH#:}
        PATH=${PATH%:}
    fi
    unset VIRTUAL_ENV PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT
    export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
    user_path=$PATH
    PATH=$PATH:/usr/sbin:/sbin # ldconfig, on systems where only root has these
    if [[ -z ${HOME:-} ]]; then
        HOME=$(getent passwd "$(id -u)" | cut -d: -f6) || HOME=
        [[ -n $HOME ]] || die "HOME is not set" "Set it, as in: HOME=/path ./install.sh"
        export HOME
    fi
}

# ---------------------------------------------------------------- what is here

# detect_device ROOT: sets device (jetson, pi or pc), model and system.
detect_device() {
    local root=$1
    device=pc
    model=$(uname -m)
    system=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$root/etc/os-release" 2>/dev/null) ||
        system="unknown system"
    if [[ -r $root/proc/device-tree/model ]]; then
        model=$(tr -d '\0' <"$root/proc/device-tree/model")
    fi
    if [[ -e $root/etc/nv_tegra_release || $model == *NVIDIA* || $model == *Jetson* ]]; then
        device=jetson
    elif [[ $model == *"Raspberry Pi"* ]]; then
        device=pi
    fi
    # The camera and TensorRT modules of these come with the system and are not on PyPI.
    system_site=no
    [[ $device == pc ]] || system_site=yes
}

# Sets python, and where there is one its version (3.11), its base directory and has_venv.
find_python() {
    python=
    version=
    base=
    has_venv=no
    if [[ -n $python_option ]]; then
        python=$(type -P -- "$python_option") || die "--python: there is no program $python_option"
    elif [[ -x $(stamped python) ]]; then
        python=$(stamped python) # what --python said the last time
    elif [[ $system_site == yes && -x /usr/bin/python3 ]]; then
        python=/usr/bin/python3 # the one that the system's modules belong to
    else
        python=$(type -P python3) || return 0
    fi
    local facts bits
    facts=$("$python" -c '
import struct, sys
from importlib.util import find_spec
print("%d.%d" % sys.version_info[:2], struct.calcsize("P") * 8,
      "yes" if find_spec("ensurepip") and find_spec("venv") else "no", sys.base_prefix)') ||
        die "$python does not run" "Choose another Python with --python EXE."
    read -r version bits has_venv base <<<"$facts"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "$python is Python $version; 3.10 or newer is needed" \
            "Install a newer one, and name it: ./install.sh --python EXE"
    ((bits == 64)) ||
        die "this is a 32-bit system; ONNX Runtime is made for 64-bit systems only" \
            "Install the 64-bit edition of this system."
}

# The major version of the numpy that the system's Python modules were built for; nothing where
# there is none.
system_numpy() { "$python" -c 'import numpy; print(numpy.__version__.split(".")[0])' 2>/dev/null || true; }

# Sets opencv (PyPI or the system), pins (extra requirements) and missing (Debian packages).
find_missing() {
    opencv=PyPI
    pins=()
    missing=()
    if [[ -z $python ]]; then
        missing+=(python3 python3-venv)
    elif [[ $has_venv == no ]]; then
        [[ $base == /usr ]] ||
            die "$python has no venv module" "Reinstall that Python, or choose another with --python EXE."
        if [[ $("/usr/bin/python3" -c 'import sys; print("%d.%d" % sys.version_info[:2])') == "$version" ]]; then
            missing+=(python3-venv)
        else
            missing+=("python$version-venv")
        fi
    fi
    if [[ $system_site == yes && -n $python ]]; then
        # JetPack's OpenCV has GStreamer, which its CSI camera needs; PyPI's would hide it.
        if [[ $device == jetson ]] && "$python" -c 'import cv2' 2>/dev/null; then
            opencv='the system'
        fi
        # pycuda, which TensorRT needs, comes as source alone.
        if [[ $device == jetson ]] && find_nvcc && ! "$python" -c 'import pycuda' 2>/dev/null; then
            local headers
            headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
            [[ -e $headers/Python.h ]] || missing+=("python$version-dev")
            type -P g++ >/dev/null || missing+=(g++)
        fi
        # Modules built for numpy 1 break under numpy 2.
        [[ $(system_numpy) != 1 ]] || pins+=('numpy<2')
    fi
    if [[ $opencv == PyPI ]]; then
        local libraries
        libraries=$(ldconfig -p) || libraries=
        [[ $libraries == *libGL.so.1* ]] || missing+=(libgl1)
        [[ $libraries == *libgthread-2.0.so.0* ]] || missing+=(libglib2.0-0)
    fi
}

# Sets cuda to the directory of nvcc, by which pycuda finds CUDA.
find_nvcc() {
    cuda=/usr/local/cuda/bin
    [[ -x $cuda/nvcc ]] || cuda=$(dirname -- "$(type -P nvcc)")
    [[ -x $cuda/nvcc ]]
}

report() {
    note "device:       $model ($device)" \
        "system:       $system" \
        "python:       ${python:-none yet}${version:+ ($version)}" \
        "environment:  $venv"
    if [[ $system_site == yes ]]; then
        note "              which sees the system's Python packages"
    fi
    note "opencv:       from $opencv" "packages:     ${missing[*]:-nothing missing}"
}

# ---------------------------------------------------------------- Debian packages

may_ask() { [[ $assume_yes == no && -t 0 && -t 1 ]]; }

# use_apt [PREFIX ...]: sets apt, the command that runs apt-get, behind a prefix such as sudo.
# A machine that was just switched on may still be installing its own updates: wait for it.
use_apt() {
    apt=("$@" env DEBIAN_FRONTEND=noninteractive
        apt-get --quiet --option Dpkg::Use-Pty=0 --option DPkg::Lock::Timeout=300)
}

install_packages() {
    ((${#missing[@]})) || return 0
    say "installing Debian packages: ${missing[*]}"
    type -P apt-get >/dev/null ||
        die "these are missing, and there is no apt-get: ${missing[*]}" \
            "Install what your system calls them, then run this again."
    local apt as_root=() install=(install --yes --no-install-recommends "${missing[@]}")
    local by_hand=("As root run: apt-get update && apt-get ${install[*]}"
        "and then this script again.")
    if may_ask; then
        local answer
        read -r -p "    Install them now? [Y/n] " answer
        [[ ${answer:-y} == [yY]* ]] || die "not installed" "${by_hand[@]}"
    fi
    if ((EUID != 0)); then
        type -P sudo >/dev/null || die "that needs root, and there is no sudo" "${by_hand[@]}"
        if may_ask; then
            sudo -v || die "that needs root, and sudo says no" "${by_hand[@]}"
        else
            sudo -n true 2>/dev/null || die "that needs root, and sudo does not give it without a password" "${by_hand[@]}"
        fi
        as_root=(sudo)
    fi
    use_apt "${as_root[@]}"
    local apt_log
    apt_log=$(mktemp)
    if ! "${apt[@]}" "${install[@]}" >"$apt_log" 2>&1; then
        note "with fresh package lists"
        # One dead source among many is no reason to stop: the next line shows what counts.
        "${apt[@]}" update >>"$apt_log" 2>&1 || true
        if ! "${apt[@]}" "${install[@]}" >>"$apt_log" 2>&1; then
            tail -n 5 -- "$apt_log" >&2
            die "apt-get could not install: ${missing[*]}" "Is the network up? The log is $apt_log" "${by_hand[@]}"
        fi
    fi
    rm -f -- "$apt_log"
}

# What some tests need: real camera servers, a browser, a desktop, an MQTT broker, Prometheus' promtool, a
# systemd to boot. Where they cannot be installed, these tests are skipped, and say so.
test_packages=(python3-gi python3-numpy python3-opencv gir1.2-gst-rtsp-server-1.0
    gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly chromium xvfb xdotool
    mosquitto mosquitto-clients prometheus openssl systemd systemd-container dbus)
# Tests start these by themselves, on loopback; as services nobody asked for them.
test_services=(mosquitto prometheus)

install_test_packages() {
    local wanted=() package
    type -P dpkg-query >/dev/null && type -P apt-get >/dev/null || return 0
    for package in "${test_packages[@]}"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] ||
            wanted+=("$package")
    done
    ((${#wanted[@]})) || return 0
    say "installing Debian packages for tests: ${wanted[*]}"
    local apt as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    use_apt "${as_root[@]}"
    local install=(install --yes --no-install-recommends "${wanted[@]}")
    "${apt[@]}" "${install[@]}" >/dev/null 2>&1 ||
        { "${apt[@]}" update && "${apt[@]}" "${install[@]}"; } >/dev/null 2>&1 ||
        note "not installed, so the tests that need them are skipped. By hand:" "sudo apt-get ${install[*]}"
    [[ -d /run/systemd/system ]] || return 0
    local service
    for service in "${test_services[@]}"; do
        [[ " ${wanted[*]} " != *" $service "* ]] ||
            "${as_root[@]}" systemctl --quiet disable --now "$service" 2>/dev/null || true
    done
}

# ---------------------------------------------------------------- the environment

# The stamp marks an environment as made by this script; "contents" is there when it is complete.
stamped() { sed -n "s/^$1: //p" "$stamp" 2>/dev/null || true; }

write_stamp() {
    {
        printf 'An environment made by install.sh of edge-mnv2.\n'
        printf 'environment: %s\n' "$environment"
        printf 'python: %s\n' "$python"
        printf 'extras: %s\n' "$extras"
        (($# == 0)) || printf 'contents: %s\n' "$1"
    } >"$stamp"
}

# What an installation is made from: where all that differs is code that is read from the
# checkout anyway, nothing has to be installed again.
fingerprint() {
    local sources=(install.sh pyproject.toml edge_mnv2/__init__.py) # the last one has the version
    [[ $editable == yes ]] || sources+=(README.md LICENSE NOTICE camera configs edge_mnv2 engines)
    find "${sources[@]}" -type f -not -path '*/__pycache__/*' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-64
}

empty_environment() { find "$venv/" -mindepth 1 -delete; }

refuse_foreign() {
    if [[ ! -e $stamp && -e $venv && -n $(ls -A -- "$venv") ]]; then
        die "$venv is there already and was not made by this script" \
            "Move it away, or choose another place with --prefix DIR."
    fi
}

prepare_environment() {
    environment="python $version from $base, system packages: $system_site, in $venv"
    if [[ -e $stamp ]]; then
        local why=
        if [[ -z $(stamped contents) ]]; then
            why="it was left half made"
        elif [[ $(stamped environment) != "$environment" ]]; then
            why="it was made for another Python or place"
        elif ! "$venv/bin/python" -c '' 2>/dev/null; then
            why="its Python no longer runs"
        fi
        if [[ -z $why ]]; then
            # What was asked for once stays: --demo after --dev takes no tools away.
            [[ $(stamped extras) != dev ]] || extras=dev
            return 0
        fi
        say "removing the environment in $venv: $why"
        empty_environment
    fi
    say "making a Python environment in $venv"
    mkdir -p -- "$venv" || die "cannot make $venv" "Choose another place with --prefix DIR."
    [[ -w $venv ]] || die "cannot write to $venv" "Choose another place with --prefix DIR."
    write_stamp || explain "the environment could not be made"
    local options=()
    [[ $system_site == no ]] || options+=(--system-site-packages)
    if ! "$python" -m venv "${options[@]}" "$venv" >"$log" 2>&1; then
        tail -n 5 -- "$log" >&2
        explain "the environment could not be made"
    fi
}

# explain MESSAGE: ends the script with the likely cause, from the log and the state of the disk.
explain() {
    local advice="The lines above say why."
    if disk_is_full || grep -qsF 'Errno 28' "$log"; then
        advice="The disk is full: make room (1 GB is enough) for $venv
    and for ${TMPDIR:-/tmp}, or set TMPDIR to a place that has it."
    elif grep -qsE 'CERTIFICATE_VERIFY_FAILED|SSLError' "$log"; then
        advice="A certificate was refused: is the clock right? It says $(date)."
    elif grep -qsE 'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|ProtocolError' "$log"; then
        advice="The package index could not be reached: is the network up?"
    fi
    die "$1" "$advice" "The log is $log"
}

disk_is_full() {
    df -P -- "$venv" "${TMPDIR:-/tmp}" | awk 'NR > 1 && $4 < 1024 { full = 1 } END { exit !full }'
}

pip_install() {
    local options=(--no-input --log "$log")
    [[ -t 1 ]] || options+=(--quiet --progress-bar off)
    "$venv/bin/python" -m pip install "${options[@]}" "$@" </dev/null
}

# The requirements of the installed package but for OpenCV, one a line.
requirements_without_opencv() {
    "$venv/bin/python" - "$extras" <<'PYTHON'
import sys
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement


def walk(extras: set[str]) -> None:
    for requirement in map(Requirement, requires("edge-mnv2") or ()):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        requirement.marker = None
        if requirement.name == "edge-mnv2":
            walk(requirement.extras)
        elif requirement.name != "opencv-python":
            print(requirement)


walk(set(sys.argv[1].split(",")))
PYTHON
}

install_project() {
    local target=$PWD${extras:+[$extras]} contents
    contents="editable: $editable, opencv: $opencv, pins: ${pins[*]:-none}, from $PWD, $(fingerprint)"
    local before
    before=$(stamped contents)
    if [[ $before == "$contents" && $(stamped extras) == "$extras" ]]; then
        say "the environment in $venv is up to date"
        return 0
    fi
    say "installing edge-mnv2${extras:+[$extras]} and what it needs (some minutes on a small device)"
    local had
    had=$(stamped extras)
    write_stamp
    : >"$log"
    local editable_option=()
    [[ $editable == no ]] || editable_option=(--editable)
    if ! pip_project; then
        # pip installs all or nothing: what was there before still is.
        [[ -z $before ]] || extras=$had write_stamp "$before"
        explain "pip could not install it"
    fi
    check_project
    write_stamp "$contents"
}

pip_project() {
    if [[ $opencv == PyPI ]]; then
        pip_install "${editable_option[@]}" "$target" "${pins[@]}"
    else
        local requirements
        note "OpenCV stays the system's: if pip says that opencv-python is missing, that is meant."
        pip_install --no-deps "${editable_option[@]}" "$target" || return
        requirements=$(requirements_without_opencv) || return
        mapfile -t requirements <<<"$requirements"
        pip_install "${requirements[@]}" "${pins[@]}"
    fi
}

# Without pycuda all but TensorRT works, so its failure is no failure of the installation.
install_pycuda() {
    [[ $device == jetson ]] || return 0
    ! "$venv/bin/python" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("pycuda"))' ||
        return 0
    if ! find_nvcc; then
        note "No CUDA toolkit here, so no pycuda, and no TensorRT: it runs on the processor." \
            "To have it: sudo apt install nvidia-jetpack, then this script again"
        return 0
    fi
    say "building pycuda, by which TensorRT is reached (some minutes)"
    PATH=$cuda:$PATH pip_install 'pycuda>=2022.2' "${pins[@]}" ||
        note "pycuda could not be built; without it, it runs on the processor, not on TensorRT." \
            "The log is $log; this script tries again when it is run again."
}

# Imports what has shared libraries outside Python's care, and runs the command once.
check_project() {
    say "checking that it runs"
    if ! ORT_DISABLE_TELEMETRY=1 "$venv/bin/python" -c 'import cv2, onnxruntime' >>"$log" 2>&1; then
        tail -n 1 "$log" >&2
        die "a part that was installed does not load" \
            "If a .so file is named: install the Debian package that has it, then run this again." \
            "The log is $log"
    fi
    local answer
    answer=$("$venv/bin/edge-mnv2" --version)
    note "$answer"
}

# ---------------------------------------------------------------- the command for use

link_command() {
    local command=$venv/bin/edge-mnv2 link=$HOME/.local/bin/edge-mnv2
    if [[ $venv != "$default_prefix" ]]; then
        say "done: the command is $command"
        return 0
    fi
    if [[ $(readlink -- "$link" || true) != "$command" ]]; then
        if [[ -e $link ]]; then
            say "done: the command is $command"
            note "$link is there already and is not this script's: left as it is"
            return 0
        fi
        mkdir -p -- "${link%/*}"
        ln -sfn -- "$command" "$link"
    fi
    say "done: the command is $link"
    if [[ :$user_path: != *":${link%/*}:"* ]]; then
        note "${link%/*} is not in your PATH; this line in ~/.profile changes that:" \
            "    export PATH=\"\$HOME/.local/bin:\$PATH\""
    fi
}

hint_camera() {
    [[ $device == pi ]] || return 0
    "$venv/bin/python" -c 'import picamera2' 2>/dev/null ||
        note "No picamera2 here: USB cameras and files work, the ribbon-cable camera does not." \
            "To have it: sudo apt install --no-install-recommends python3-picamera2"
}

uninstall() {
    local link=$HOME/.local/bin/edge-mnv2 cache=${XDG_CACHE_HOME:-$HOME/.cache}/edge-mnv2
    local candidates=("$PWD/.venv" "$default_prefix") found=no
    [[ -z $prefix ]] || candidates=("$prefix")
    for venv in "${candidates[@]}"; do
        if [[ -e $venv/.edge-mnv2 ]]; then
            found=yes
            say "removing $venv"
            [[ $dry_run == yes ]] || remove_environment
        elif [[ -e $venv ]]; then
            note "$venv was not made by this script: left as it is"
        fi
        if [[ $(readlink -- "$link" || true) == "$venv/bin/edge-mnv2" ]]; then
            found=yes
            say "removing the link $link"
            [[ $dry_run == yes ]] || rm -- "$link"
        fi
    done
    [[ -n $prefix ]] || uninstall_service
    [[ $found == yes ]] || say "nothing to remove"
    [[ ! -d $PWD/out ]] || note "left: the demo's results in $PWD/out"
    [[ ! -d $cache ]] || note "left: models and engines; to remove them: rm -r ${cache@Q}"
    note "left: Debian packages, which others may use too"
}

remove_environment() {
    empty_environment
    rmdir -- "$venv" 2>/dev/null || note "the empty directory stays: $venv"
}

# ---------------------------------------------------------------- main

# shellcheck source=scripts/service.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/service.sh"

parse_options "$@"
clean_environment
[[ -z $python_option || $python_option != */* ]] || python_option=$(realpath -s -- "$python_option")
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

default_prefix=${XDG_DATA_HOME:-$HOME/.local/share}/edge-mnv2
if [[ $mode == uninstall ]]; then
    uninstall
    exit 0
fi
extras='eval,metrics,mqtt,web'
editable=yes
venv=${prefix:-$PWD/.venv}
case $mode in
    install)
        editable=no
        venv=${prefix:-$default_prefix}
        ;;
    test | dev) extras=dev ;;
    service)
        editable=no
        venv=${prefix:-/opt/edge-mnv2}
        ;;
esac
stamp=$venv/.edge-mnv2
log=$venv/install.log

say "looking at this machine"
detect_device "$detect_root"
find_python
find_missing
report
refuse_foreign
[[ $dry_run == no ]] || exit 0
if [[ $mode == service ]]; then
    check_service
elif [[ -n ${SUDO_USER:-} && $EUID == 0 ]]; then
    note "Started with sudo, so what it makes will belong to root. It is meant to be started" \
        "without, and asks for sudo where that is needed."
fi

install_packages
[[ -n $python && $has_venv == yes ]] || find_python
prepare_environment
install_project
install_pycuda
case $mode in
    install) link_command ;;
    service) install_service ;;
    dev) say "done: source $(printf %q "$venv/bin/activate") makes its commands available" ;;
    demo)
        say "running the demo"
        "$venv/bin/edge-mnv2" demo --output out
        say "done: the results are in $PWD/out, the command is $venv/bin/edge-mnv2"
        ;;
    test)
        install_test_packages
        say "running all checks"
        VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH scripts/check ||
            die "some checks failed" "They are named above; scripts/check runs them again."
        ;;
esac
hint_camera
