#!/bin/sh
# Run a module as a job of a mounted namespace, with nothing but its files.
#
#     oanix mount --daemon ~/mnt
#     examples/jobs/run.sh ~/mnt /workspace/hello.wasm one two
#
# Shows what the job writes as it comes, says how it ended, and ends with its code; Ctrl-C ends the
# job. LIMITS is the object of its limits: LIMITS='{"cpu": 1}' examples/jobs/run.sh …
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 MOUNT MODULE [ARGUMENT]..." >&2
    exit 2
fi
jobs=$1/jobs module=$2
shift 2

text() { # as a text of JSON
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g; s/	/\\t/g; $!s/$/\\n/' | tr -d '\n')"
}

arguments=
for argument; do
    arguments="$arguments${arguments:+, }$(text "$argument")"
done

job=$(cat "$jobs/new")
printf '{"module": %s, "args": [%s], "limits": %s, "stdin": ""}\n' \
    "$(text "$module")" "$arguments" "${LIMITS:-{\}}" >"$jobs/$job/spec"
trap 'echo kill INT >"$jobs/$job/ctl" 2>/dev/null || :' INT TERM
echo start >"$jobs/$job/ctl"

cat "$jobs/$job/stderr" >&2 &
cat "$jobs/$job/stdout" || :
wait $! || :

line=$(cat "$jobs/$job/wait")
echo "job $job $line" >&2
# completed 0, failed 3 exit, failed wall, cancelled killed INT
case $line in
    completed*) exit 0 ;;
    failed\ [0-9]*) code=${line#failed } && exit "${code%% *}" ;;
    failed*) exit 1 ;;
    *) exit 130 ;;
esac
