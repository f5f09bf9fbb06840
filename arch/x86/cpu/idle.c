/*
 * Waiting for work on a CPU that has none: by HLT, or by MWAIT on the word of its softirqs. In the latter case a CPU that
 * raises one need send no interrupt, since its store wakes us (raise_softirq_on()).
 */
#include <asm/atomic.h>
#include <asm/idle.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>

#define CPUID1_ECX_MONITOR    (1u << 3)
#define CPUID1_ECX_HYPERVISOR (1u << 31)
#define CPUID5_EDX_C1         0xf0u    /* number of C1 sub-states: 0 where MWAIT saves nothing */

static bool use_mwait, by_command, wanted;

static int parse_idle(const char *value)
{
    bool mwait = !strcmp(value, "mwait");

    if (!mwait && strcmp(value, "hlt"))
        return -EINVAL;
    by_command = true;
    wanted = mwait;
    return 0;
}
CMDLINE_OPTION("idle", parse_idle);

/* Under another hypervisor MWAIT is, if it is offered at all, likely to spin, and leaf 5 to be empty. */
void idle_init(void)
{
    struct cpuid_regs c = cpuid(1, 0);
    bool can = c.c & CPUID1_ECX_MONITOR, useful = can && cpuid(0, 0).a >= 5 && cpuid(5, 0).d & CPUID5_EDX_C1;

    use_mwait = can && (by_command ? wanted : useful && !(c.c & CPUID1_ECX_HYPERVISOR));
    printk(LOG_INFO "Idle CPUs wait by %s%s\n", use_mwait ? "MWAIT" : "HLT",
           wanted && !can ? ": MWAIT is not offered" : "");
}

/*
 * Both instructions come right behind STI, which takes effect after the next one: no interrupt can come between the check
 * and the wait. Whoever raises a softirq sets the bit and then looks at watching; here it is the other way round, before
 * the wait and, in the caller, after it.
 */
static void wait_by_mwait(void)
{
    struct cpu_info *info = cpu_info();

    (void)xchg(&info->watching, true);
    __asm__ volatile("monitor" : : "a"(&info->softirq_pending), "c"(0), "d"(0));
    if (softirq_pending())
        irq_enable();
    else
        __asm__ volatile("sti; mwait" : : "a"(0), "c"(0) : "memory");
    (void)xchg(&info->watching, false);
}

/* since: TSC, 0 while the CPU does not wait. Only the CPU itself writes. */
struct idle_count { u64 waits, ticks, since; };
STATIC_PERCPU(struct idle_count, counts);

static void wait(void)
{
    struct idle_count *c = &this_cpu(counts);

    write_once(c->since, rdtsc());
    if (use_mwait)
        wait_by_mwait();
    else
        __asm__ volatile("sti; hlt" ::: "memory");
    write_once(c->waits, c->waits + 1);
    write_once(c->ticks, c->ticks + (rdtsc() - c->since));
    write_once(c->since, 0);
}

struct idle_stat idle_stat(unsigned cpu)
{
    const struct idle_count *c = &cpu_var(counts, cpu);
    u64 since = read_once(c->since), now = rdtsc();
    struct idle_stat s = { .waits = read_once(c->waits), .ticks = read_once(c->ticks) };

    /* TSCs of different CPUs may differ a little. */
    if (since && now > since && read_once(c->since) == since)
        s.ticks += now - since;
    return s;
}

void cpu_wait_for_work(void)
{
    irq_disable();
    if (softirq_pending())
        irq_enable();
    else if (unlikely(!cpumask_test(&cpu_online_map, this_cpu_id())))
        smp_leave();
    else
        wait();
}
