/*
 * cpu-check: on each CPU in turn, use what the hypervisor sets up for a CPU and today's programs rely on: floating point, RDTSCP,
 * segment bases by instruction, timers. For tests, after CPUs went and came. Prints how many are right; 1 if one is not.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HWCAP2_FSGSBASE 2
#define TURNS 100

static int has_rdtscp(void)
{
    unsigned a, b, c, d = 0;

    return __get_cpuid(0x80000001, &a, &b, &c, &d) && d >> 27 & 1;
}

/* What it reads is no use: Linux 6.1 sets the CPU's number neither there nor in the GDT of a second paravirtual CPU. It must be taken. */
static void read_tscp(void)
{
    unsigned aux;

    if (has_rdtscp())
        __builtin_ia32_rdtscp(&aux);
}

static int base_is_right(void)
{
    unsigned long want = 0, got = 0;

    syscall(SYS_arch_prctl, ARCH_GET_FS, &want);
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
        return 1;
    __asm__ volatile("rdfsbase %0; wrfsbase %0" : "=r"(got));
    return got == want;
}

/* Vectors are as wide as the CPU has them. */
static int sums_are_right(void)
{
    double sum = 0;
    long double roots = 0;

    for (int i = 1; i <= 1000; i++) {
        sum += (double)i / 8;
        roots += sqrtl((long double)i * i);
    }
    return sum == 62562.5 && roots == 500500.0L;
}

static int wrong(unsigned cpu, int turn, const char *what)
{
    printf("cpu-check: CPU %u: %s is wrong in turn %d\n", cpu, what, turn);
    return 0;
}

static int works(unsigned cpu)
{
    cpu_set_t only;
    unsigned is = ~0u;

    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    if (sched_setaffinity(0, sizeof(only), &only))
        return 0;
    for (int turn = 0; turn < TURNS; turn++) {
        read_tscp();
        if (syscall(SYS_getcpu, &is, NULL, NULL) || is != cpu)
            return wrong(cpu, turn, "getcpu");
        if (!base_is_right())
            return wrong(cpu, turn, "RDFSBASE");
        if (!sums_are_right())
            return wrong(cpu, turn, "floating point");
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    return 1;
}

int main(void)
{
    unsigned right = 0, n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);

    for (unsigned cpu = 0; cpu < n; cpu++)
        right += works(cpu);
    printf("cpu-check: %u of %u\n", right, n);
    return right != n;
}
