# What a device is, as lines of key=value. Sent to `sh -s` over ssh by deploy.py; writes nothing, needs no root.
say() { printf '%s=%s\n' "$1" "$2"; }

say system "$(uname -s)"
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)"
say board "$({ tr -d "\0" < /proc/device-tree/model; } 2>/dev/null)"
say os "$(. /etc/os-release 2>/dev/null && printf '%s' "$PRETTY_NAME")"
say jetpack "$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' /etc/nv_tegra_release 2>/dev/null)"
say python "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
say venv "$(python3 -c 'import venv' 2>/dev/null && echo yes)"
say init "$(cat /proc/1/comm 2>/dev/null)"
say systemd "$(systemctl --version 2>/dev/null | sed -n '1s/systemd \([0-9]*\).*/\1/p')"
say uid "$(id -u)"
say user "$(id -un)"
say sudo "$([ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null && echo free || echo password; }; })"
say clock "$(date +%s)"
say synced "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)"
say memory_mib "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo | awk '{print int($1 / 1024)}')"
at=/opt/edged
while [ ! -d "$at" ]; do at=$(dirname "$at"); done
say opt_on "$(df -P "$at" | awk 'NR==2 {print $6}')"
say free_mib "$(df -Pm "$at" | awk 'NR==2 {print $4}')"
say root_type "$(awk '$2 == "/" {type=$3} END {print type}' /proc/mounts)"
say root_mode "$(awk '$2 == "/" {split($4, o, ",")} END {print o[1]}' /proc/mounts)"
say memory_cgroup "$({ grep -qw memory /sys/fs/cgroup/cgroup.controllers || [ -d /sys/fs/cgroup/memory ]; } 2>/dev/null && echo yes)"
say dialout "$(getent group dialout >/dev/null && echo yes)"
say ports "$(ls -d /dev/serial/by-id/* /dev/ttyUSB* /dev/ttyACM* /dev/ttyAMA* /dev/ttyTHS* 2>/dev/null | tr '\n' ' ')"
say gpu "$(for node in /dev/nvidia0 /dev/nvmap /dev/nvhost-gpu; do [ -e "$node" ] && echo yes && break; done)"
say current "$(readlink /opt/edged/current 2>/dev/null | sed 's,.*/,,')"
say end yes
