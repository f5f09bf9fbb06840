/* Interrupts of devices: who is told of them, how often, and who gets vectors and irqs. */
// SOURCES: tests/unit/fake/machine.c common/abi.c arch/x86/irq/irq.c arch/x86/irq/pirq.c arch/x86/irq/msi.c arch/x86/irq/msi_message.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <arch/x86/irq/internal.h>
#include <arch/x86/irq/pirq.h>
#include <asm/percpu.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/console.h>
#include <pvisor/cpumask.h>
#include <pvisor/hwdom.h>
#include <pvisor/lib.h>
#include <pvisor/rangeset.h>
#include <pvisor/time.h>
#include "fake/fake.h"

/* --- The machine: lines, functions with a message each that can be masked, CPUs, a clock and timers --- */

#define MSI_CAP     0x50
#define MASKBITS    0x0100u
#define LINE        16u             /* level */
#define NR_DEVS     1200
#define NR_DOMUS    6

static struct pci_dev devs[NR_DEVS];
static unsigned nr_devs;            /* given out */
static u32 written_to[NR_DEVS];     /* the low half of the address that its message has */
static u64 now;
static unsigned lines;              /* of the log */
static unsigned told[NR_DOMUS + 1]; /* how often a domain's ports became pending */
static struct domain *dom[NR_DOMUS + 1];

u32 nr_gsis = 24, cpu_apic_ids[NR_CPUS];
cpumask_t cpu_online_map;
unsigned nr_cpus;
struct rangeset *mmio_ro_ranges;

u64 now_ns(void) { return now; }
void printk(const char *fmt, ...) { (void)fmt, lines++; }
void domain_log(struct domain *d, const char *fmt, ...) { (void)d, (void)fmt, lines++; }
void debug_key_register(char key, void (*fn)(char, struct cpu_regs *), const char *help) { (void)key, (void)fn, (void)help; }
bool rangeset_contains(const struct rangeset *r, u64 first, u64 last) { return (void)r, (void)first, (void)last, true; }
void acpi_gsi_trigger(u32 gsi, bool *level, bool *low) { *level = *low = gsi >= LINE; }
void ioapic_init(void) { }
void lapic_eoi(void) { }
void *ioremap_at(struct io_place *place, maddr_t a, size_t size) { return (void)place, (void)a, (void)size, NULL; }
void iounmap_at(const struct io_place *place) { (void)place; }
u64 pci_bar_address(u32 sbdf, unsigned n) { return (void)sbdf, (void)n, 0; }

static void mask_line(struct irq_desc *desc) { desc->masked = true; }
static void unmask_line(struct irq_desc *desc) { desc->masked = false; }
static void retarget_line(struct irq_desc *desc) { (void)desc; }

int gsi_setup(u32 gsi, bool level, bool low)
{
    static const struct irq_chip chip = { "line", mask_line, unmask_line, retarget_line, NULL };
    struct irq_desc *desc = &irq_descs[gsi];

    if (!desc->chip && vector_alloc(desc))
        return -ENOSPC;
    desc->level = level;
    desc->low = low;
    desc->masked = true;
    desc->chip = &chip;
    return 0;
}

struct pci_dev *pci_find(u32 sbdf) { return sbdf < nr_devs ? &devs[sbdf] : NULL; }
u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes) { return (void)sbdf, (void)bytes, reg == MSI_CAP + 2 ? MASKBITS : 0; }
void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value)
{
    (void)bytes;
    if (reg == MSI_CAP + 4)
        written_to[sbdf] = value;
}

void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu)
{
    *t = (struct timer){ .fn = fn, .data = data, .cpu = (u16)cpu };
}
void timer_set(struct timer *t, u64 expires) { t->expires = expires; }
void timer_stop(struct timer *t) { t->expires = 0; }
void timer_migrate(struct timer *t, unsigned cpu) { t->cpu = (u16)cpu; }

static void pass(u64 ns)
{
    now += ns;
    for (u32 i = 0; i < nr_irqs; i++) {
        struct timer *t = &irq_descs[i].storm_timer;

        if (!t->expires || t->expires > now)
            continue;
        t->expires = 0;
        t->fn(t->data);
    }
}

static void tell(struct domain *d, u32 port) { (void)port, told[d->id]++; }

static void start(unsigned cpus)
{
    fake_reset();
    memset(devs, 0, sizeof(devs));
    memset(told, 0, sizeof(told));
    nr_devs = 0;
    now += SECONDS(100);
    nr_cpus = cpus;
    memset(&cpu_online_map, 0, sizeof(cpu_online_map));
    for (unsigned i = 0; i < cpus; i++) {
        cpu_apic_ids[i] = i;
        cpumask_set(&cpu_online_map, i);
        irq_cpu_gone(i);
    }
    irq_init(tell);
    for (unsigned i = 0; i <= NR_DOMUS; i++) {
        dom[i] = fake_domain((u16)i, ABI_64, 1, !i);
        dom[i]->is_hardware = !i;
        assert_int_equal(pirq_domain_init(dom[i]), 0);
    }
    fake_run(dom[0], 0);
    lines = 0;
}

static int one_cpu(void **state) { return (void)state, start(1), 0; }
static int two_cpus(void **state) { return (void)state, start(2), 0; }
static int eight_cpus(void **state) { return (void)state, start(8), 0; }

static int end(void **state)
{
    (void)state;
    on_unlock = NULL;
    for (unsigned i = 0; i <= NR_DOMUS; i++)
        pirq_domain_destroy(dom[i]);
    return 0;
}

/* Another function of d's, and the pirq of its message. */
static s32 map(struct domain *d)
{
    s32 pirq = -1;
    int rc;

    assert_true(nr_devs < NR_DEVS);
    devs[nr_devs] = (struct pci_dev){ .sbdf = nr_devs, .parent = nr_devs, .msi_cap = MSI_CAP, .owner = d->id };
    rc = pirq_map_msi(d, nr_devs++, false, 0, 0, &pirq);
    return rc ? rc : pirq;
}

/* The irq of the function that came last. */
static struct irq_desc *last_irq(void)
{
    for (u32 i = nr_gsis; i < nr_irqs; i++)
        if (irq_descs[i].chip && irq_descs[i].msi.dev == &devs[nr_devs - 1])
            return &irq_descs[i];
    return NULL;
}

static void bind(struct domain *d, s32 pirq) { assert_int_equal(pirq_bind(d->vcpu[0], (u32)pirq, 1000u + (u32)pirq, false), 0); }

/* A message of d's that is bound. */
static struct irq_desc *source(struct domain *d, s32 *pirq)
{
    s32 n = map(d);

    assert_true(n >= 0);
    bind(d, n);
    if (pirq)
        *pirq = n;
    return last_irq();
}

static struct irq_desc *line_of(struct domain *d)
{
    s32 pirq = LINE;

    assert_int_equal(gsi_setup(LINE, true, true), 0);
    assert_int_equal(pirq_map_gsi(d, LINE, &pirq), 0);
    bind(d, LINE);
    return &irq_descs[LINE];
}

/* Its device interrupts, unless it may not; true: it has. */
static bool interrupt(struct irq_desc *desc)
{
    struct cpu_regs regs = { .entry_vector = desc->vector };

    if (desc->masked)
        return false;
    fake_set_cpu(desc->cpu);
    do_interrupt(&regs);
    fake_set_cpu(0);
    return true;
}

/* How many interrupts of these a CPU takes in a second when each comes as often as it can, every `ns`. */
static unsigned flood(struct irq_desc *const *desc, unsigned nr, u64 ns)
{
    unsigned n = 0;

    for (u64 end_at = now + SECONDS(1); now < end_at; pass(ns))
        for (unsigned i = 0; i < nr; i++)
            n += interrupt(desc[i]);
    return n;
}

/* --- How often --- */

/* What the comment in irq.c promises of a CPU, and what the sources that are paused take besides. */
#define A_SECOND 200000u

static void a_storm_is_paused_and_nothing_lost(void **state)
{
    struct irq_desc *desc = source(dom[0], NULL);
    unsigned n = 0;

    (void)state;
    while (n < 10000 && interrupt(desc))
        n++, now += 100;
    assert_true(desc->masked);
    assert_in_range(n, 4000, 8200);         /* the window begins with the first look */
    assert_int_equal(told[0], n - 1);
    pass(MILLISECS(5));
    assert_true(desc->masked);
    pass(MILLISECS(6));
    assert_false(desc->masked);
    assert_int_equal(told[0], n);
}

static void binding_anew_ends_no_pause(void **state)
{
    s32 pirq;
    struct irq_desc *desc = source(dom[1], &pirq);

    (void)state;
    while (interrupt(desc))
        now += 100;
    for (unsigned i = 0; i < 100; i++) {
        pirq_unbind(dom[1], (u32)pirq, 1000u + (u32)pirq);
        bind(dom[1], pirq);
        assert_true(desc->masked);
    }
    pass(MILLISECS(11));
    assert_false(desc->masked);
}

static void binding_anew_begins_no_new_count(void **state)
{
    s32 pirq;
    struct irq_desc *desc = source(dom[0], &pirq);
    unsigned n = 0;

    (void)state;
    for (; n < 20000 && interrupt(desc); n++) {
        now += 100;
        if (n % 1000)
            continue;
        pirq_unbind(dom[0], (u32)pirq, 1000u + (u32)pirq);
        bind(dom[0], pirq);
    }
    assert_in_range(n, 1000, 9000);
}

/* Whoever is bound when the pause ends has it unmasked; nobody, and it stays masked. */
static void a_pause_ends_for_whoever_is_bound(void **state)
{
    s32 pirq;
    struct irq_desc *desc = source(dom[1], &pirq);

    (void)state;
    while (interrupt(desc))
        now += 100;
    pirq_unbind(dom[1], (u32)pirq, 1000u + (u32)pirq);
    pass(MILLISECS(11));
    assert_true(desc->masked);
    bind(dom[1], pirq);
    assert_false(desc->masked);
}

/* Its function asserts it for ever, and another vCPU says at once that each was handled. */
static void a_line_with_eois_at_once_leaves_the_cpu_its_time(void **state)
{
    struct irq_desc *desc = line_of(dom[1]);
    unsigned n = 0;

    (void)state;
    for (u64 end_at = now + SECONDS(1); now < end_at; pass(MICROSECS(4))) {
        n += interrupt(desc);
        pirq_unmasked(dom[1], LINE);
    }
    assert_in_range(n, 1000, A_SECOND / 4);
    assert_in_range(told[1], n / 10 * 9, n);
}

/* The line says for itself what it still wants; nobody waits for an EOI that the guest has no cause to say. */
static void a_lines_pause_ends_without_an_event(void **state)
{
    struct irq_desc *desc = line_of(dom[1]);
    unsigned before;

    (void)state;
    for (unsigned i = 0; i < 10000 && !desc->storm && interrupt(desc); i++)
        pirq_unmasked(dom[1], LINE);
    before = told[1];
    pirq_unmasked(dom[1], LINE);
    assert_true(desc->storm && desc->masked);
    pass(MILLISECS(11));
    assert_int_equal(told[1], before);
    assert_false(desc->masked);
    assert_true(interrupt(desc));
    assert_int_equal(told[1], before + 1);
    assert_true(desc->masked);
    pirq_unmasked(dom[1], LINE);
    assert_false(desc->masked);
}

/* None of them is a storm by itself. */
static void several_sources_leave_the_cpu_its_time(void **state)
{
    struct irq_desc *desc[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        desc[i] = source(dom[1], NULL);
    assert_in_range(flood(desc, 3, MICROSECS(3)), 100000, A_SECOND);
}

static void many_sources_do_too(void **state)
{
    struct irq_desc *desc[100];

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        desc[i] = source(dom[1 + i % NR_DOMUS], NULL);
    assert_in_range(flood(desc, 100, MICROSECS(50)), 100000, A_SECOND + 100 * 125);
}

/* A fast disk of dom0's, and a slow one of another domain's, on the CPU that a domU floods. */
static void others_are_heard_in_a_flood(void **state)
{
    struct irq_desc *desc[3], *fast = source(dom[0], NULL), *slow = source(dom[2], NULL);
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        desc[i] = source(dom[1], NULL);
    for (u64 end_at = now + SECONDS(1); now < end_at; pass(MICROSECS(4)), n++) {
        for (unsigned i = 0; i < 3; i++)
            interrupt(desc[i]);
        assert_true(interrupt(fast));
        assert_true(n % 250 || interrupt(slow));
    }
    assert_int_equal(told[0], n);
    assert_int_equal(told[2], n / 250);
}

/* Nor is a domU's fast disk a flood. */
static void a_fast_disk_is_never_paused(void **state)
{
    struct irq_desc *desc = source(dom[1], NULL);

    (void)state;
    for (u64 end_at = now + SECONDS(1); now < end_at; pass(MICROSECS(8)))
        assert_true(interrupt(desc));
}

static void storms_do_not_fill_the_log(void **state)
{
    struct irq_desc *desc = source(dom[1], NULL);

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        flood(&desc, 1, MICROSECS(1));
    assert_in_range(lines, 1, 2);
    now += SECONDS(20);
    flood(&desc, 1, MICROSECS(1));
    assert_in_range(lines, 2, 4);
}

/* Where interrupts are not remapped a domU's function can send any. */
static void unused_vectors_do_not_fill_the_log(void **state)
{
    struct cpu_regs regs = { .entry_vector = VEC_DEVICE_LAST };

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        do_interrupt(&regs);
    assert_in_range(lines, 1, 2);
}

/* --- Vectors and irqs --- */

/* As many as the domUs get, which take turns; the last error. */
static unsigned map_for_domus(int *rc)
{
    unsigned n = 0;
    s32 pirq = 0;

    while (n < NR_DEVS && (pirq = map(dom[1 + n % NR_DOMUS])) >= 0)
        n++;
    *rc = pirq;
    return n;
}

static unsigned map_for_dom0(unsigned max)
{
    unsigned n = 0;

    while (n < max && map(dom[0]) >= 0)
        n++;
    return n;
}

static void vectors_are_kept_for_dom0(void **state)
{
    int rc;
    unsigned n = map_for_domus(&rc);

    (void)state;
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(fake_said, "vector"));
    assert_in_range(n, 200, 380 * 3 / 4 + 2);
    assert_int_equal(map_for_dom0(90), 90);
    assert_int_equal(map_for_dom0(100), 380 - n - 90);
    assert_true(map(dom[1]) < 0);
}

static void irqs_are_kept_for_dom0(void **state)
{
    int rc;
    unsigned n = map_for_domus(&rc);

    (void)state;
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(fake_said, "irq"));
    assert_int_equal(n, 768);
    assert_int_equal(map_for_dom0(256), 256);
}

static void leave(unsigned cpu)
{
    cpumask_clear(&cpu_online_map, cpu);
    irq_leave_cpu(cpu);
}

/* Those of dom0's that came last find a place. */
static void dom0s_find_a_place_when_a_cpu_goes(void **state)
{
    struct irq_desc *desc[60];

    (void)state;
    for (unsigned i = 0; i < 220; i++)
        assert_true(map(dom[1 + i % NR_DOMUS]) >= 0);
    for (unsigned i = 0; i < 60; i++)
        desc[i] = source(dom[0], NULL);
    leave(1);
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(desc[i]->cpu, 0);
        assert_int_equal(written_to[desc[i]->msi.dev->sbdf] >> 12 & 0xff, 0);
        assert_true(interrupt(desc[i]));
    }
    assert_int_equal(told[0], 60);
    assert_int_equal(lines, 1);
    irq_cpu_gone(1);
}

/* It would come to whoever has its vector when the CPU is back. */
static void what_finds_no_place_stays_masked(void **state)
{
    struct irq_desc *desc[220];
    s32 pirq[220];
    unsigned left = 0;

    (void)state;
    for (unsigned i = 0; i < 220; i++)
        desc[i] = source(dom[1 + i % NR_DOMUS], &pirq[i]);
    leave(1);
    assert_int_equal(lines, 1);
    irq_cpu_gone(1);
    cpumask_set(&cpu_online_map, 1);
    for (unsigned i = 0; i < 220; i++) {
        struct domain *d = dom[1 + i % NR_DOMUS];

        if (desc[i]->cpu == 0)
            continue;
        left++;
        pirq_unbind(d, (u32)pirq[i], 1000u + (u32)pirq[i]);
        bind(d, pirq[i]);
        pass(SECONDS(1));
        assert_true(desc[i]->masked);
    }
    assert_int_equal(left, 220 - 143);
    assert_int_equal(pirq_unmap(dom[1 + 219 % NR_DOMUS], pirq[219]), 0);
    assert_false(source(dom[1], NULL)->masked);
}

/* The other CPU has no say before it gets the lock of the irq, and then what it finds is whole. */
static bool leaving, left;
static void cpu_1_leaves(spinlock_t *l)
{
    if (l->rank == RANK_APIC && !leaving) {
        leaving = true;
        cpumask_clear(&cpu_online_map, 1);
    }
    for (u32 i = 0; i < nr_irqs; i++)
        if (spin_is_held(&irq_descs[i].lock))
            return;
    if (!leaving || left)
        return;
    left = true;
    irq_leave_cpu(1);
}

static void a_message_is_not_made_for_a_cpu_that_goes(void **state)
{
    (void)state;
    assert_int_equal(map_for_dom0(1), 1);
    assert_int_equal(last_irq()->cpu, 0);
    leaving = left = false;
    on_unlock = cpu_1_leaves;
    assert_int_equal(map_for_dom0(1), 1);
    on_unlock = NULL;
    assert_true(left);
    assert_int_equal(last_irq()->cpu, 0);
    assert_int_equal(written_to[nr_devs - 1] >> 12 & 0xff, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_storm_is_paused_and_nothing_lost, one_cpu, end),
        cmocka_unit_test_setup_teardown(binding_anew_ends_no_pause, one_cpu, end),
        cmocka_unit_test_setup_teardown(binding_anew_begins_no_new_count, one_cpu, end),
        cmocka_unit_test_setup_teardown(a_pause_ends_for_whoever_is_bound, one_cpu, end),
        cmocka_unit_test_setup_teardown(a_line_with_eois_at_once_leaves_the_cpu_its_time, one_cpu, end),
        cmocka_unit_test_setup_teardown(a_lines_pause_ends_without_an_event, one_cpu, end),
        cmocka_unit_test_setup_teardown(several_sources_leave_the_cpu_its_time, one_cpu, end),
        cmocka_unit_test_setup_teardown(many_sources_do_too, one_cpu, end),
        cmocka_unit_test_setup_teardown(others_are_heard_in_a_flood, one_cpu, end),
        cmocka_unit_test_setup_teardown(a_fast_disk_is_never_paused, one_cpu, end),
        cmocka_unit_test_setup_teardown(storms_do_not_fill_the_log, one_cpu, end),
        cmocka_unit_test_setup_teardown(unused_vectors_do_not_fill_the_log, one_cpu, end),
        cmocka_unit_test_setup_teardown(vectors_are_kept_for_dom0, two_cpus, end),
        cmocka_unit_test_setup_teardown(irqs_are_kept_for_dom0, eight_cpus, end),
        cmocka_unit_test_setup_teardown(dom0s_find_a_place_when_a_cpu_goes, two_cpus, end),
        cmocka_unit_test_setup_teardown(what_finds_no_place_stays_masked, two_cpus, end),
        cmocka_unit_test_setup_teardown(a_message_is_not_made_for_a_cpu_that_goes, two_cpus, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
