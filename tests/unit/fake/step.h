/*
 * What another CPU does between two instructions of ours. Between step_on() and step_off() the work runs step by step (the trap flag);
 * after its nth instruction there another thread, which is the other CPU and has locks of its own, does all that it has to do. So tests
 * try each place in turn.
 */
#ifndef FAKE_STEP_H
#define FAKE_STEP_H

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#define STEP_TF 0x100u

static unsigned steps_left;
static sem_t step_turn, step_done;

static void step_trap(int signal)
{
    (void)signal;
    if (!steps_left || --steps_left)
        return;
    sem_post(&step_turn);
    sem_wait(&step_done);
}

static void *step_other(void *meanwhile)
{
    sem_wait(&step_turn);
    if (!steps_left)
        ((void (*)(void))meanwhile)();
    sem_post(&step_done);
    return NULL;
}

static void step_on(void) { __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | STEP_TF); }
static void step_off(void) { __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~(u64)STEP_TF); }

/* False: the work was over before its nth instruction, and the other CPU has done nothing. */
static bool step_over(void (*work)(void), unsigned n, void (*meanwhile)(void))
{
    pthread_t other;
    bool happened;

    if (sem_init(&step_turn, 0, 0) || sem_init(&step_done, 0, 0) || signal(SIGTRAP, step_trap) == SIG_ERR ||
        pthread_create(&other, NULL, step_other, (void *)meanwhile))
        return false;
    steps_left = n;
    work();
    happened = !steps_left;
    if (!happened)
        sem_post(&step_turn);
    pthread_join(other, NULL);
    signal(SIGTRAP, SIG_DFL);
    return happened;
}

#endif
