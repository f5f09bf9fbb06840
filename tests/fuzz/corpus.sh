#!/bin/sh
# corpus.sh FUZZER...: puts into corpus/NAME the least of what it has and of what was found in build/fuzz/found that reaches as much, the
# shortest first, as far as MOST bytes go. (make corpus calls it.)
MOST=${MOST:-8192}
OUT=$(cd "$OUT" && pwd)
for fuzzer in "$@"; do
    name=${fuzzer#fuzz_} least=$OUT/least
    [ -d "$OUT/found/$name" ] || continue
    rm -rf "$least"
    mkdir -p "$least" "$OUT/corpus/$name"
    ASAN_OPTIONS=detect_leaks=0 "$OUT/$fuzzer" -merge=1 -detect_leaks=0 "$least" "$OUT/corpus/$name" "$OUT/found/$name" >"$OUT/log/merge-$name" 2>&1 || exit 1
    find "$least" -type f -size +0 -printf '%s %p\n' | sort -n | while read -r size file; do
        base64 -w 0 "$file"
        echo
    done | awk -v most="$MOST" '{ bytes += length + 1 } bytes <= most' >"corpus/$name"
    echo "$name: $(wc -l <"corpus/$name") of $(find "$least" -type f | wc -l) inputs, $(wc -c <"corpus/$name") bytes"
done
