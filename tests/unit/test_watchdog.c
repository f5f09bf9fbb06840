/* The watchdog: it names a CPU that has stopped working, once, says when it goes on, and leaves the others in peace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "../../arch/x86/cpu/watchdog.c"

int vsnprintf(char *s, size_t n, const char *fmt, va_list args);

#define CPUS 4

static struct cpu_info cpus[CPUS];
static unsigned here, shown, nr_shown, nr_lines;
static char line[200];
static u64 now;
cpumask_t cpu_online_map;
unsigned nr_cpus = CPUS;

struct cpu_info *cpu_info(void) { return &cpus[here]; }
u64 now_ns(void) { return now; }
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu) { t->fn = fn, t->data = data, t->cpu = (u16)cpu; }
void timer_set(struct timer *t, u64 expires) { t->expires = expires; }
void timer_kill(struct timer *t) { t->fn = NULL; }
int cmdline_bool(const char *value, bool *var) { (void)value, (void)var; return 0; }
int cmdline_uint(const char *value, u32 *var) { (void)value, (void)var; return 0; }
void console_flush(void) { }
void nmi_show_cpu(unsigned cpu) { shown = cpu; nr_shown++; }
void printk(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    nr_lines++;
}

static int setup(void **state)
{
    (void)state;
    nr_shown = nr_lines = 0;
    memset(watches_percpu, 0, sizeof(watches_percpu));
    for (unsigned i = 0; i < CPUS; i++) {
        cpus[i].cpu = here = i;
        cpumask_set(&cpu_online_map, i);
        watchdog_init_cpu();
    }
    watchdog_start();
    return 0;
}

/* Timers run everywhere but on the stuck CPU. */
static void pass(unsigned seconds, unsigned stuck)
{
    while (seconds--) {
        now += SECONDS(1);
        for (here = 0; here < CPUS; here++)
            if (here != stuck && cpumask_test(&cpu_online_map, here))
                this_cpu(watches).timer.fn(this_cpu(watches).timer.data);
    }
}

static void nobody_is_named_without_reason(void **state)
{
    (void)state;
    pass(100, NR_CPUS);
    assert_int_equal(nr_lines, 0);
}

static void a_stuck_cpu_is_named_once(void **state)
{
    for (unsigned stuck = 0; stuck < CPUS; stuck++) {
        setup(state);
        pass(5, NR_CPUS);
        pass(9, stuck);
        assert_int_equal(nr_shown, 0);
        pass(30, stuck);
        assert_int_equal(nr_shown, 1);
        assert_int_equal(nr_lines, 1);
        assert_int_equal(shown, stuck);
        assert_non_null(strstr(line, "has been stuck"));
        pass(2, NR_CPUS);
        assert_int_equal(nr_lines, 2);
        assert_non_null(strstr(line, "goes on"));
        pass(30, NR_CPUS);
        assert_int_equal(nr_lines, 2);
    }
}

static void an_offline_cpu_is_not_missed(void **state)
{
    (void)state;
    pass(5, NR_CPUS);
    cpumask_clear(&cpu_online_map, 2);
    here = 2;
    watchdog_fini_cpu();
    pass(30, NR_CPUS);
    assert_int_equal(nr_lines, 0);
    pass(30, 3);             /* whose neighbour is CPU 1 now */
    assert_int_equal(shown, 3);
    assert_int_equal(nr_shown, 1);
}

/* The last one left watches nobody. Whoever comes back has not counted yet, as it had not when it went. */
static void who_comes_back_is_given_time(void **state)
{
    (void)state;
    pass(5, NR_CPUS);
    for (unsigned cpu = 1; cpu < CPUS; cpu++)
        cpumask_clear(&cpu_online_map, cpu);
    pass(30, NR_CPUS);
    cpumask_set(&cpu_online_map, CPUS - 1);
    pass(1, CPUS - 1);
    pass(30, NR_CPUS);
    assert_int_equal(nr_lines, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nobody_is_named_without_reason, setup),
        cmocka_unit_test_setup(a_stuck_cpu_is_named_once, setup),
        cmocka_unit_test_setup(an_offline_cpu_is_not_missed, setup),
        cmocka_unit_test_setup(who_comes_back_is_given_time, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
