#!/bin/sh
# Run modules as a pipeline: each reads what the one before it writes, while it does.
#
#     examples/jobs/pipeline.sh ~/mnt /workspace/fetch.wasm /workspace/sort.wasm <urls.txt
#
# The first reads the standard input of this script; what the last writes is shown. It ends with 1
# when any of them failed. As in a shell, a pipeline is bound, not programmed: the standard input of
# a job is a file of the namespace, and the standard output of another job is one.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 MOUNT MODULE..." >&2
    exit 2
fi
jobs=$1/jobs
shift

all= before=
for module; do
    job=$(cat "$jobs/new")
    input=null
    [ -z "$before" ] || input="{\"path\": \"/jobs/$before/stdout\"}"
    printf '{"module": "%s", "stdin": %s}\n' "$module" "$input" >"$jobs/$job/spec"
    echo start >"$jobs/$job/ctl"
    all="$all $job" before=$job
done
trap 'for job in $all; do echo kill INT >"$jobs/$job/ctl" 2>/dev/null || :; done' INT TERM

# What runs in the background has no standard input of its own; and a job that reads no further is
# no failure of what feeds it.
set -- $all
exec 3<&0
cat >"$jobs/$1/stdin" 2>/dev/null <&3 &
cat "$jobs/$before/stdout"
kill $! 2>/dev/null || :

code=0
for job in $all; do
    line=$(cat "$jobs/$job/wait")
    case $line in completed*) ;; *) echo "job $job $line" >&2 && code=1 ;; esac
done
exit $code
