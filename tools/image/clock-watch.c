/*
 * clock-watch SECONDS: read the system's clocks and the TSC again and again, and see that none goes back. For tests, in a
 * domU that is paused, moved or saved meanwhile. Prints what it found; 1 if a clock was wrong.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MONOTONIC, RAW, TSC, NR_CLOCKS };
static const char *const names[NR_CLOCKS] = { "monotonic", "raw", "TSC" };

static uint64_t ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t read_clock(int which)
{
    switch (which) {
    case MONOTONIC: return ns(CLOCK_MONOTONIC);
    case RAW: return ns(CLOCK_MONOTONIC_RAW);
    default: return __builtin_ia32_rdtsc();
    }
}

int main(int argc, char **argv)
{
    uint64_t last[NR_CLOCKS], reads = 0, back = 0;
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);

    for (int i = 0; i < NR_CLOCKS; i++)
        last[i] = read_clock(i);
    for (; time(NULL) < end; reads++) {
        for (int i = 0; i < NR_CLOCKS; i++) {
            uint64_t now = read_clock(i);
            if (now < last[i] && !back++)
                printf("clock-watch: %s went back by %llu\n", names[i], (unsigned long long)(last[i] - now));
            last[i] = now;
        }
        if (!(reads & 1023))
            usleep(1000);
    }
    printf("clock-watch: %llu reads, %llu back\n", (unsigned long long)reads, (unsigned long long)back);
    return back != 0;
}
