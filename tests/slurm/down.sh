#!/bin/bash
# Stops the daemons that up.sh started. Usage: down.sh SCRATCH_FOLDER
for file in "$1"/slurmd.node1.pid "$1"/slurmd.node2.pid "$1"/slurmctld.pid; do
    [ -f "$file" ] && kill "$(cat "$file")"
done
true
