#!/bin/bash
# Starts munge, slurmctld and two slurmd as root; needs Debian's slurm-wlm and munge. Usage: up.sh SCRATCH_FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
run=$(mkdir -p "$1" && cd "$1" && pwd)
mkdir -p "$run/state" "$run/spool.node1" "$run/spool.node2"
sed "s#@RUN@#$run#g" "$here/slurm.conf.in" > "$run/slurm.conf"
export SLURM_CONF=$run/slurm.conf
if [ ! -e /etc/munge/munge.key ]; then
    (umask 077; head -c 1024 /dev/urandom > /etc/munge/munge.key)
    chown munge:munge /etc/munge/munge.key
fi
install -d -o munge -g munge -m 0755 /run/munge /var/lib/munge /var/log/munge
munge -n > /dev/null 2>&1 || setpriv --reuid munge --regid munge --clear-groups munged
munge -n | unmunge > /dev/null
slurmctld -f "$SLURM_CONF"
slurmd -N node1 -f "$SLURM_CONF"
slurmd -N node2 -f "$SLURM_CONF"
for _ in $(seq 100); do
    [ "$(sinfo -h -t idle -o %D)" = 2 ] && exit 0
    sleep 0.2
done
sinfo -N -l >&2
exit 1
