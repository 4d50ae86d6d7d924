# shellcheck shell=bash disable=SC2034,SC2154 # variables of install.sh, which reads this file
# The systemd service: what "install.sh --service" does after the environment is made, and what
# "--uninstall" takes away. install.sh reads this file, and gives it say, note, die, venv, device, model.

service=edge-mnv2
service_user=edge-mnv2
unit=/etc/systemd/system/$service.service
drop_in=$unit.d/device.conf
settings=/etc/edge-mnv2/edge-mnv2.yaml
records=/var/lib/edge-mnv2
service_cache=/var/cache/edge-mnv2
service_link=/usr/local/bin/edge-mnv2

# What a wrong machine or user lacks is said before anything is made.
check_service() {
    ((EUID == 0)) || die "a service belongs to the system: sudo ./install.sh --service"
    type -P systemctl >/dev/null && [[ -d /run/systemd/system ]] ||
        die "systemd does not run here" "Without it: edge-mnv2 daemon --config FILE"
    [[ ! -e $unit ]] || is_ours "$unit" ||
        die "$unit is there already and was not made by this script" "Move it away, then run this again."
}

is_ours() { grep -qs '^# Made by install.sh of edge-mnv2' -- "$1"; }

install_service() {
    if ! getent passwd "$service_user" >/dev/null; then
        say "making the user $service_user"
        useradd --system --user-group --no-create-home --home-dir "$records" \
            --shell /usr/sbin/nologin --comment "edge-mnv2, made by its install.sh" "$service_user"
    fi
    say "writing $unit"
    mkdir -p -- "${drop_in%/*}"
    {
        printf '# Made by install.sh of edge-mnv2: changes are lost when it runs again.\n'
        sed "s|/opt/edge-mnv2|$venv|g" configs/systemd/edge-mnv2.service
    } >"$unit"
    device_settings >"$drop_in"
    if [[ ! -e $settings ]]; then
        say "writing settings to change: $settings"
        mkdir -p -- "${settings%/*}"
        # Passwords of cameras may be written there.
        install -m 640 -g "$service_user" -- "$(ready_made)" "$settings"
        # Editors find it beside the settings.
        install -m 644 -- configs/schema.json "${settings%/*}/schema.json"
    else
        note "your settings stay: $settings"
    fi
    "$venv/bin/edge-mnv2" config check "$settings" ||
        die "the settings in $settings are wrong" "Put them right, then run this again."
    if [[ ! -e $service_link || $(readlink -- "$service_link" || true) == "$venv/bin/edge-mnv2" ]]; then
        ln -sfn -- "$venv/bin/edge-mnv2" "$service_link"
    fi
    say "starting the service"
    systemctl daemon-reload
    systemctl --quiet enable "$service"
    start_service
    note "its settings: $settings; after a change: systemctl reload $service" \
        "what it does:  edge-mnv2 status" "its log:       journalctl -u $service"
}

start_service() {
    # It is started when there was a result. Without its camera it waits, and so it is not waited for here.
    local before waited state
    before=$(invocation)
    systemctl --no-block restart "$service"
    for ((waited = 0; waited < 60; waited++)); do
        state=$(systemctl is-active "$service" || true)
        case $state in
            activating | deactivating) ;;
            # Until the job is under way this is said of the service that ran before.
            inactive) ((waited < 10)) || break ;;
            *) [[ $(invocation) == "$before" ]] || break ;;
        esac
        sleep 1
    done
    systemctl --no-pager --full --lines 10 status "$service" || true
    case $state in
        active) say "done: the service runs" ;;
        activating) say "done: the service has started, and waits for its first picture" ;;
        *) die "the service is $state" "Its log: journalctl -u $service" ;;
    esac
}

# What systemd names one run of the service by; nothing before the first.
invocation() { systemctl show --property InvocationID --value "$service"; }

# Whether there is NVIDIA's driver for graphics cards in PCs.
has_nvidia_card() { [[ -e /dev/nvidiactl || -e /proc/driver/nvidia ]]; }

# The groups and devices of this board: a unit that names a group that is not there does not start.
device_settings() {
    local groups=() group
    for group in video render i2c gpio; do
        ! getent group "$group" >/dev/null || groups+=("$group")
    done
    printf '# Made by install.sh of edge-mnv2 for: %s\n[Service]\n' "$model"
    printf 'SupplementaryGroups=%s\n' "${groups[*]}"
    if [[ $device == jetson ]] || has_nvidia_card; then
        cat <<'TEXT'
# CUDA writes code and runs it.
MemoryDenyWriteExecute=no
TEXT
    fi
    [[ $device == jetson ]] || return 0
    cat <<'TEXT'
# NVIDIA's camera daemon is reached by a socket in /tmp.
PrivateTmp=no
ReadWritePaths=/tmp
# The GPU's devices have many names and no class of their own.
DevicePolicy=auto
DeviceAllow=
TEXT
}

# The settings that suit this device.
ready_made() {
    local name=desk
    case $device in
        jetson) name=jetson-detect ;;
        pi) [[ $model == *"Pi 5"* || $model == *"Compute Module 5"* ]] && name=pi5-detect || name=pi4-detect ;;
    esac
    printf 'configs/%s.yaml\n' "$name"
}

# Removes the service; what it recorded, and settings that were changed, stay.
uninstall_service() {
    [[ -e $unit ]] && is_ours "$unit" || return 0
    found=yes
    if ((EUID != 0)); then
        note "the service stays, it belongs to the system: sudo ./install.sh --uninstall"
        return 0
    fi
    say "removing the service"
    [[ $dry_run == no ]] || return 0
    ! type -P systemctl >/dev/null || systemctl --quiet disable --now "$service" 2>/dev/null || true
    local home
    home=$(sed -n 's|^ExecStart=\(.*\)/bin/edge-mnv2 .*|\1|p' "$unit")
    rm -f -- "$unit" "$drop_in"
    rmdir -- "${drop_in%/*}" 2>/dev/null || note "left: your own changes in ${drop_in%/*}"
    if [[ -d /run/systemd/system ]]; then
        systemctl daemon-reload
        systemctl reset-failed "$service" 2>/dev/null || true
    fi
    [[ $(readlink -- "$service_link" || true) != "$home/bin/edge-mnv2" ]] || rm -- "$service_link"
    if [[ -e $home/.edge-mnv2 ]]; then
        venv=$home
        remove_environment
    fi
    rm -rf -- "$service_cache"
    rm -f -- "$records/idle-power.json"
    find "$records" -depth -type d -empty -delete 2>/dev/null || true
    if [[ -d $records ]]; then
        # The number of a user that is gone is given to the next one.
        chown -R --no-dereference root:root -- "$records"
        note "left: what it recorded, which belongs to root now; to remove it: rm -r $records"
    fi
    if [[ -e $settings ]]; then
        if [[ -n $(matching_template) ]]; then
            rm -f -- "$settings" "${settings%/*}/schema.json"
            rmdir -- "${settings%/*}" 2>/dev/null || true
        else
            note "left: your settings; to remove them: rm -r ${settings%/*}"
        fi
    fi
    ! getent passwd "$service_user" >/dev/null || userdel "$service_user"
}

# The ready-made file that the settings are still the same as; nothing where they were changed.
matching_template() {
    local template
    for template in configs/*.yaml; do
        if cmp -s -- "$template" "$settings"; then
            printf '%s\n' "$template"
            return 0
        fi
    done
}
