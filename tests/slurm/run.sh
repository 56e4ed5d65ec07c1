#!/bin/bash
# The diffuse step of a tiny pipeline under a real Slurm on this one machine: an array of four tasks into one folder, one of
# which is killed in the middle and requeued, must leave the same files as one job.
#
# Usage: run.sh TONOSCOPE [PROMPTS]      (as root; needs slurm-wlm and munge; see README.md)
#
# Starts munged, slurmctld and slurmd of its own, in a folder of its own, and ends those and no others.

set -euo pipefail

tonoscope=$(realpath "${1:?usage: run.sh TONOSCOPE [PROMPTS]}")
here=$(dirname "$(realpath "$0")")
repository=$(realpath "$here/../..")
work=$(mktemp -d /tmp/tonoscope-slurm.XXXXXX)
started=()

finish() {
    local status=$?
    for ((index = ${#started[@]} - 1; index >= 0; index--)); do
        kill "${started[index]}" 2>/dev/null || true
        # Not children of this shell any more, where they have forked: wait until they are gone.
        for _ in $(seq 50); do kill -0 "${started[index]}" 2>/dev/null || break; sleep 0.1; done
    done
    if ((status == 0)); then rm -rf "$work"; else echo "FAILED: see $work" >&2; fi
}
trap finish EXIT

# --- a Slurm of one node ---------------------------------------------------------------------------------------------------

host=$(hostname)
mkdir -p "$work"/{state,spool,munge}
dd if=/dev/urandom of="$work/munge/key" bs=1 count=1024 2>/dev/null
chown -R munge: "$work/munge"
chmod 755 "$work"
chmod 400 "$work/munge/key"
runuser -u munge -- munged --foreground --key-file="$work/munge/key" --socket="$work/munge/socket" \
    --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" --force &
for _ in $(seq 50); do [[ -f $work/munge/pid ]] && break; sleep 0.1; done
started+=("$(cat "$work/munge/pid")")
for _ in $(seq 50); do [[ -S $work/munge/socket ]] && break; sleep 0.1; done

export SLURM_CONF=$work/slurm.conf
cat > "$SLURM_CONF" <<CONF
ClusterName=tiny
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ReturnToService=2
SchedulerParameters=sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld -D -i -f "$SLURM_CONF" > "$work/slurmctld.out" 2>&1 &
started+=($!)
slurmd -D -f "$SLURM_CONF" > "$work/slurmd.out" 2>&1 &
started+=($!)
for _ in $(seq 100); do [[ $(sinfo -h -o %t 2>/dev/null) == idle* ]] && break; sleep 0.3; done
sinfo

# --- one job, for comparison -------------------------------------------------------------------------------------------------

prompts=${2:-$repository/../shared/data/prompt.txt}
if [[ -f $prompts ]]; then
    grep -v '^[[:space:]]*$' "$prompts" | sed -n 1,40p > "$work/prompts.txt" || true
else
    echo "no $prompts: prompts are made up" >&2
    for index in $(seq 40); do echo "$index. A piece for $index violins at 90 BPM."; done > "$work/prompts.txt"
fi
pipeline() {
    cat <<TOML
folder = "$work/$1"
device = "cpu"
[diffuse]
model = "$repository/tests/fixtures/stable_audio_tiny"
prompts = "$work/prompts.txt"
annotations = []
steps = 50
keep-latents = true
TOML
}
pipeline whole > "$work/whole.toml"
pipeline array > "$work/array.toml"
"$tonoscope" pipeline run "$work/whole.toml" --from 2 --to 2

# --- the array -----------------------------------------------------------------------------------------------------------------

# The published script of docs/slurm, but for what this machine has not got.
sed -e '/^#SBATCH --mem/d' -e '/^#SBATCH --cpus/d' -e '/^#SBATCH --output/d' -e "s|exec tonoscope|exec $tonoscope|" \
    "$repository/docs/slurm/pipeline.sbatch" > "$work/pipeline.sbatch"
job=$(sbatch --parsable --array=0-3 --mem=400 --output="$work/task_%a.out" --open-mode=append \
    "$work/pipeline.sbatch" "$work/array.toml" 2)
victim=1
# Finished prompts whose unit matches a pattern; the folder may not be there yet.
units() { { find "$work/array/generated/units" -name "$1" 2>/dev/null || true; } | wc -l; }
# Of forty prompts each task has ten: the second's are 10 to 19. Killed when it has some of them, but not all.
for _ in $(seq 2000); do
    made=$(units 'prompt_001?.unit')
    ((made >= 3)) && break
    sleep 0.02
done
# Not scancel, which asks first: the process itself, with a signal that it cannot answer.
killed=
for pid in $(pgrep -f "pipeline run $work/array.toml"); do
    if tr '\0' '\n' < "/proc/$pid/environ" | grep -qx "SLURM_ARRAY_TASK_ID=$victim"; then
        kill -KILL "$pid"
        killed=$pid
    fi
done
[[ -n $killed ]] || { echo "task $victim is not running" >&2; exit 1; }
echo "task $victim is killed with $made of its 10 prompts finished, $(units '*.unit') of 40 in all"
for _ in $(seq 100); do
    state=$(squeue -h -j "${job}_$victim" -o %T 2>/dev/null || true)
    [[ -z $state || $state == PENDING ]] && break
    sleep 0.1
done
made=$(units 'prompt_001?.unit')
((made < 10)) || { echo "it had finished before it was killed: nothing was tried" >&2; exit 1; }
scontrol requeue "${job}_$victim"
# Else Slurm lets it wait for two minutes.
scontrol update "jobid=${job}_$victim" StartTime=now
echo "requeued with $made of its prompts finished"
for _ in $(seq 1200); do [[ -z $(squeue -h -j "$job" 2>/dev/null) ]] && break; sleep 0.5; done
squeue
cat "$work"/task_*.out

# --- the same files --------------------------------------------------------------------------------------------------------------

files() { (cd "$work/$1/generated" && find . -type f ! -name run.json ! -name .lock -print0 | sort -z | xargs -0 sha256sum); }
files whole > "$work/whole.sums"
files array > "$work/array.sums"
diff "$work/whole.sums" "$work/array.sums"
echo "the same $(wc -l < "$work/whole.sums") files"
restarts=$(scontrol show job "${job}_$victim" 2>/dev/null | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p' | head -1)
echo "restarts of task $victim: ${restarts:-unknown}"
