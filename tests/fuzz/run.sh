#!/bin/sh
# run.sh FUZZER...: runs each for SECONDS_EACH, JOBS at a time, its corpus first; prints one line for each, the end of what those say that
# fail, and a total. OUT: where they were built. (make run calls it.)

unpack() {      # NAME: the inputs of corpus/NAME, one a file
    rm -rf "$OUT/corpus/$1"
    mkdir -p "$OUT/corpus/$1"
    [ ! -f "corpus/$1" ] || n=0
    [ ! -f "corpus/$1" ] || while read -r line; do
        n=$((n + 1))
        echo "$line" | base64 -d >"$OUT/corpus/$1/$n"
    done <"corpus/$1"
}

one() {
    name=${1#fuzz_} log=$OUT/log/$1
    mkdir -p "$OUT/log" "$OUT/crashes" "$OUT/found/$name"
    unpack "$name"
    rm -f "$OUT/crashes/$name"-*
    most=$(sed -n 's,^// MAX: *,,p' "$1.c")
    ASAN_OPTIONS=detect_leaks=0 timeout $((SECONDS_EACH + 120)) "$OUT/$1" -max_total_time="$SECONDS_EACH" -max_len="${most:-1024}" \
        -timeout=20 -detect_leaks=0 -print_final_stats=1 -artifact_prefix="$OUT/crashes/$name-" \
        "$OUT/found/$name" "$OUT/corpus/$name" >"$log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 edges, \2 features/p' "$log" | tail -n 1)
    if [ $status = 0 ] && [ "${runs:-0}" -gt 0 ]; then
        echo "ok      $name: $runs executions, $edges"
        return
    fi
    echo "FAILED  $name: after ${runs:-no} executions, $edges"
    grep -v -E '^#|NEW_FUNC|^INFO|^stat::' "$log" | tail -n 60 | sed 's/^/    /'
    for crash in "$OUT/crashes/$name"-*; do
        [ ! -e "$crash" ] || echo "    again: $OUT/$1 $crash"
    done
}

if [ "$1" = --one ]; then
    one "$2"
    exit 0
fi
OUT=$(cd "$OUT" && pwd)
export OUT SECONDS_EACH
printf '%s\n' "$@" | xargs -P "$JOBS" -n 1 sh "$0" --one | tee "$OUT/lines"
passed=$(grep -c '^ok ' "$OUT/lines")
failed=$(grep -c '^FAILED ' "$OUT/lines")
[ $((passed + failed)) = $# ] || failed=$(($# - passed))
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
