/*
 * A guest that is copied while it runs, and the link that its copy takes. Times are the TSC's: ns under -icount; unlike Linux's clock it
 * goes on while the guest stands still.
 *
 *     logged churn ROUNDS    work: processes are started, memory is asked for, written and given back. For each round
 *                            "WORK churn NS WRITE": how long it took, and the cheapest write to a page that faulted in it, 0 if none did
 *     logged beat RATE       writes pages, RATE MB/s, a part each ms. "WORK beat 0" when it begins; "WORK down NS OTHER" when it has stood
 *                            still: from the beat before to the one after, and the longest time between any other two. Each passes a
 *                            mark (count.c)
 *     logged link RATE FILE  copies its input to its output with RATE MB/s; FILE has how many bytes that were
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include "mark.h"

#define MIB  (1024UL * 1024)
#define PAGE 4096UL
#define MS   1000000UL

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

    nanosleep(&t, NULL);
}

/* With small pages only. */
static char *map(size_t size)
{
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("logged: mmap");
        exit(1);
    }
    madvise(p, size, MADV_NOHUGEPAGE);
    return p;
}

static void touch(char *p, size_t size)
{
    for (size_t i = 0; i < size; i += PAGE)
        p[i] = 1;
}

/* --- Work --- */

#define AREA       (16 * MIB)   /* what it has all the time */
#define ASKED      (4 * MIB)
#define PROCESSES  5
#define NO_FAULT   60u          /* ns: a write that takes no longer */

/* The least that a write to a page takes if it faults, without what one takes that does not. */
static uint64_t write_pages(volatile char *p, size_t size)
{
    uint64_t least = ~0ul, plain = ~0ul;

    for (size_t i = 0; i < size; i += PAGE)
        for (int again = 0; again < 2; again++) {
            uint64_t t = __rdtsc();

            p[i] = (char)again;
            t = __rdtsc() - t;
            if (t > NO_FAULT)
                least = t < least ? t : least;
            else
                plain = t < plain ? t : plain;
        }
    return least == ~0ul ? 0 : least - plain;
}

static void start_process(void)
{
    pid_t pid = fork();

    if (!pid)
        _exit(0);
    waitpid(pid, NULL, 0);
}

static void churn(unsigned rounds)
{
    char *area = map(AREA), *asked;

    madvise(area, AREA, MADV_DONTFORK);     /* else the first writes fault because they would be the children's too */
    touch(area, AREA);
    while (rounds--) {
        uint64_t t = __rdtsc(), write = write_pages(area, AREA);

        for (int i = 0; i < PROCESSES; i++) {
            start_process();
            asked = map(ASKED);
            touch(asked, ASKED);
            munmap(asked, ASKED);
        }
        t = __rdtsc() - t;
        printf("WORK churn %lu %lu\n", t, write);
        fflush(stdout);
    }
}

/* --- Beats --- */

#define MOST_LATE (20 * MS)     /* of what was not written in time, this much is caught up with */

static void write_some(char *area, uint64_t bytes)
{
    static uint64_t due, at;
    static char n;

    for (due += bytes; due >= PAGE; due -= PAGE, at = (at + PAGE) % (64 * MIB))
        memset(area + at, ++n, PAGE);
}

static void beat(unsigned rate)
{
    char *area = map(64 * MIB);
    uint64_t last, clock, other = 0;

    touch(area, 64 * MIB);
    printf("WORK beat 0\n");
    fflush(stdout);
    for (last = __rdtsc(), clock = now();;) {
        uint64_t gap, ran;

        sleep_ns(MS);
        gap = __rdtsc() - last;
        ran = now() - clock;
        last += gap;
        clock += ran;
        if (gap > ran + MS) {
            MARK_NOP(14);
            printf("WORK down %lu %lu\n", gap, other);
            fflush(stdout);
        } else {
            MARK_NOP(13);
            other = gap > other ? gap : other;
        }
        write_some(area, (gap < MOST_LATE ? gap : MOST_LATE) * rate / 1000);
    }
}

/* --- A link --- */

static void put(const char *from, size_t size)
{
    while (size) {
        ssize_t n = write(1, from, size);

        if (n <= 0)
            exit(1);
        from += n;
        size -= (size_t)n;
    }
}

/* What comes while nothing is on its way goes on its way at once, and is there when it has been sent. */
static void link_at(unsigned rate, const char *file)
{
    static char chunk[16384];
    uint64_t sent = 0, free_at = 0, t;
    FILE *f = fopen(file, "w");
    ssize_t n;

    while ((n = read(0, chunk, sizeof(chunk))) > 0) {
        t = now();
        free_at = (free_at > t ? free_at : t) + (uint64_t)n * 1000 / rate;
        if (free_at > t)
            sleep_ns(free_at - t);
        put(chunk, (size_t)n);
        sent += (uint64_t)n;
        rewind(f);
        fprintf(f, "%lu\n", sent);
        fflush(f);
    }
}

int main(int argc, char **argv)
{
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;

    if (argc > 2 && !strcmp(argv[1], "churn"))
        churn(n);
    else if (argc > 2 && !strcmp(argv[1], "beat"))
        beat(n);
    else if (argc > 3 && !strcmp(argv[1], "link"))
        link_at(n, argv[3]);
    else
        return 1;
    return 0;
}
