#!/bin/sh
# Runs the given cmocka programs; prints one line per test, the output of those that fail, and a total.
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    name=$(basename "$program")
    ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS-} timeout "${UNIT_TIMEOUT:-600}" "$program" >"$log" 2>&1
    status=$?
    sed -n "s/^\[       OK \] /ok      $name: /p; s/^\[  SKIPPED \] /skipped $name: /p" "$log" |
        awk '!/test\(s\)/ && !seen[$0]++'
    bad=$(sed -n "/test(s)/d; s/^\[  FAILED  \] /FAILED  $name: /p" "$log" | sort -u)
    [ -z "$bad" ] || echo "$bad"
    passed=$((passed + $(grep -c '^\[       OK \]' "$log")))
    if [ $status -ne 0 ]; then
        count=$(printf '%s' "$bad" | grep -c .)
        [ "$count" -gt 0 ] || { count=1; echo "FAILED  $name: ended with status $status"; }
        failed=$((failed + count))
        sed 's/^/    /' "$log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
