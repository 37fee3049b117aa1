#!/bin/bash
# Run a module on each of many files, so many jobs at a time.
#
#     examples/jobs/pool.sh ~/mnt 4 /workspace/count.wasm ~/mnt/workspace/texts/*.txt
#
# Each job sees its own file alone, read-only, as /in. What they write comes in the order of the
# files, each behind its name. It ends with the number of those that failed.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 MOUNT AT_A_TIME MODULE FILE..." >&2
    exit 2
fi
mount=$(realpath "$1") most=$2 module=$3
jobs=$mount/jobs
shift 3

text() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

order() { # the path of a file in the namespace: prints the job
    local job recipe
    job=$(cat "$jobs/new")
    recipe="bind '$1' /in ro\\nseal\\n"
    printf '{"module": %s, "args": ["/in"], "namespace": "%s", "stdin": ""}\n' \
        "$(text "$module")" "$recipe" >"$jobs/$job/spec"
    echo start >"$jobs/$job/ctl"
    echo "$job"
}

running=() names=() all=()
trap 'for job in "${running[@]}"; do echo kill >"$jobs/$job/ctl" || :; done; exit 130' INT TERM

for file; do
    if [ ${#running[@]} -ge "$most" ]; then
        cat "$jobs/${running[0]}/wait" >/dev/null
        running=("${running[@]:1}")
    fi
    path=$(realpath "$file")
    job=$(order "${path#"$mount"}")
    running+=("$job") all+=("$job") names+=("$file")
done

failed=0
for at in "${!all[@]}"; do
    line=$(cat "$jobs/${all[at]}/wait")
    echo "${names[at]}: $line"
    cat "$jobs/${all[at]}/stdout"
    case $line in completed*) ;; *) failed=$((failed + 1)) ;; esac
done
exit $((failed < 100 ? failed : 100))
