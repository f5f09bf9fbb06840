/*
 * mm-storm THREADS SECONDS: threads of one address space map, write, protect, check and unmap memory at once, and one
 * forks. Every word that is read back must be what was written. Prints the rounds done; 1 if memory was wrong.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 24
#define PAGE 4096

static time_t end;
static long rounds;

static void wrong(const char *what)
{
    printf("mm-storm: %s\n", what);
    fflush(stdout);
    _exit(1);
}

static void check(const volatile uint64_t *p, uint64_t stamp)
{
    for (int i = 0; i < PAGES; i++)
        if (p[i * PAGE / 8] != stamp + (uint64_t)i)
            wrong("a page holds what was not written to it");
}

static void one_round(uint64_t stamp, int forks)
{
    volatile uint64_t *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        wrong("no memory");
    for (int i = 0; i < PAGES; i++) {
        if (p[i * PAGE / 8])
            wrong("a new page is not empty");
        p[i * PAGE / 8] = stamp + (uint64_t)i;
    }
    if (forks) {
        pid_t child = fork();
        int status;

        if (!child) {
            check(p, stamp);
            for (int i = 0; i < PAGES; i++)
                p[i * PAGE / 8] = 0;
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            wrong("the child failed");
    }
    mprotect((void *)p, PAGES * PAGE, PROT_READ);
    check(p, stamp);
    mprotect((void *)p, PAGES * PAGE, PROT_READ | PROT_WRITE);
    p[0] = stamp;
    check(p, stamp);
    munmap((void *)p, PAGES * PAGE);
}

static void *storm(void *arg)
{
    uint64_t id = (uint64_t)arg;

    for (uint64_t n = 1; time(NULL) < end; n++) {
        one_round(id << 48 | n << 8, id == 1);
        __atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    pthread_t t[64];

    end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 10);
    for (long i = 0; i < threads && i < 64; i++)
        if (pthread_create(&t[i], NULL, storm, (void *)(i + 1)))
            wrong("no thread");
    for (int i = 0; i < threads && i < 64; i++)
        pthread_join(t[i], NULL);
    printf("mm-storm: %ld rounds\n", rounds);
    return 0;
}
