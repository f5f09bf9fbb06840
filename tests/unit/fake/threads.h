/*
 * CPUs that are threads, for the race hunt (make -C tests/unit tsan): the real locks' order is checked by fake/machine.c,
 * data races by ThreadSanitizer. A test has some threads do random work for a number of rounds.
 */
#ifndef FAKE_THREADS_H
#define FAKE_THREADS_H

#include <pvisor/types.h>

#define RACE_CPUS 4

/* Runs work(cpu) on RACE_CPUS threads, each with its own cpu_info; all begin together. */
void race(void (*work)(unsigned cpu));
/* The calling thread's own sequence, the same in every run. */
u64 race_random(u64 below);

#endif
