/* See threads.h. */
#include <pthread.h>

#include <asm/percpu.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "threads.h"

static pthread_barrier_t begin;
static void (*job)(unsigned cpu);
static __thread u64 random_state;

u64 race_random(u64 below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static void *thread(void *arg)
{
    unsigned cpu = (unsigned)(u64)arg;

    cpu_info()->cpu = cpu;
    random_state = 88172645463325252UL * (cpu + 1);
    pthread_barrier_wait(&begin);
    job(cpu);
    return NULL;
}

void race(void (*work)(unsigned cpu))
{
    pthread_t t[RACE_CPUS];

    job = work;
    pthread_barrier_init(&begin, NULL, RACE_CPUS);
    for (u64 i = 0; i < RACE_CPUS; i++)
        BUG_ON(pthread_create(&t[i], NULL, thread, (void *)i));
    for (unsigned i = 0; i < RACE_CPUS; i++)
        BUG_ON(pthread_join(t[i], NULL));
    pthread_barrier_destroy(&begin);
}
