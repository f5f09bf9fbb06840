#!/bin/sh
# run.sh PROGRAM...: runs these cmocka programs, as many at a time as there are CPUs; prints one line per test, the output of those that
# fail, and a total.

one() {
    name=$(basename "$1")
    ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS-} timeout "${UNIT_TIMEOUT:-600}" "$1" >"$log" 2>&1
    status=$?
    sed -n "s/^\[       OK \] /ok      $name: /p; s/^\[  SKIPPED \] /skipped $name: /p" "$log" |
        awk '!/test\(s\)/ && !seen[$0]++'
    bad=$(sed -n "/test(s)/d; s/^\[  FAILED  \] /FAILED  $name: /p" "$log" | sort -u)
    [ -z "$bad" ] || echo "$bad"
    failed=0
    if [ $status -ne 0 ]; then
        failed=$(printf '%s' "$bad" | grep -c .)
        [ "$failed" -gt 0 ] || { failed=1; echo "FAILED  $name: ended with status $status"; }
        sed 's/^/    /' "$log"
    fi
    echo "$(grep -c '^\[       OK \]' "$log") $failed" >>"$COUNTS"
}

if [ "$1" = --one ]; then
    log=$(mktemp)
    text=$(one "$2")        # at once: others speak, too
    rm -f "$log"
    [ -z "$text" ] || printf '%s\n' "$text"
    exit 0
fi
COUNTS=$(mktemp)
export COUNTS
trap 'rm -f "$COUNTS"' EXIT
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 sh "$0" --one
awk -v wanted=$# '{ passed += $1; failed += $2 }
    END { failed += wanted - NR; print passed + 0 " passed, " failed " failed"; exit failed > 0 }' "$COUNTS"
