/*
 * Looks whether the invariant holds (pvisor/invariant.h): every nth hypercall of a CPU (invariant=n), and by a debug key. Whoever finds that
 * it does not stops the machine, since nothing is safe from there on.
 *
 * The CPU that wants a look calls the others by a softirq, which runs where a CPU is between two operations; they wait with interrupts
 * off until it has looked. Who does not come in time may be waiting for a vCPU of one that did: then all go on, and the look is made
 * another time.
 */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/pt.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/cpumask.h>
#include <pvisor/domain.h>
#include <pvisor/invariant.h>
#include <pvisor/lib.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>

#define PATIENCE  MILLISECS(100)
#define MAX_TOLD  20u
#define ALL_EVERY 8u        /* looks: at all frames of the machine, whoever has them */

static u32 every;
CMDLINE_UINT("invariant", every);

static u32 broken, looks, in_vain;
static void *counts;

bool clause_broken(const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (broken++ < MAX_TOLD)
        printk(LOG_ERR "invariant: %s\n", text);
    return false;
}

bool may_name_others(struct domain *d, mfn_t m) { return d->is_control || grants_map(d, m); }

/* --- The look ---------------------------------------------------------------------------------------------- */

static void each_domain(void (*fn)(struct domain *d))
{
    struct domain *d;

    list_for_each(d, &domain_list, node)
        fn(d);
}

static void count(struct domain *d)
{
    frames_count(d);
    vcpus_look(d);
    grants_count(d);
    events_look(d);
}

static void compare(struct domain *d)
{
    frames_compare(d);
    mirrors_look(d);
    grants_compare(d);
}

static void look(bool at_all)
{
    frames_count_in(counts);
    each_domain(count);
    each_domain(compare);
    each_domain(grants_put_back);
    copies_look();
    domains_look();
    if (at_all) {
        frames_look();
        (void)CLAUSE("heap", heap_holds(), "what is free is not what is counted");
    }
    looks++;
    if (broken)
        panic("the invariant does not hold in %u places (look %u)", broken, looks);
}

/* --- While all stand still ----------------------------------------------------------------------------------- */

/* One word: which call it is, how many CPUs have come, whether more may, and whether anybody leads. */
#define COME     (1u << 16)
#define OPEN     1u
#define LED      2u
#define NR_COME(w) ((w) >> 16 & 0xff)
#define NEXT     (1u << 24)
static u32 call;

static bool enter(u32 *w)
{
    while (*w & OPEN)
        if (try_cmpxchg(&call, w, *w + COME))
            return true;
    return false;
}

static void come(void)
{
    u32 w = read_once(call);

    frames_drain_pending();
    irq_disable();
    if (enter(&w))
        while (read_once(call) >> 24 == w >> 24) {
            smp_call_poll();
            cpu_relax();
        }
    irq_enable();
}

/* All CPUs that do anything but this one; how many there are. */
static u32 find_others(cpumask_t *others)
{
    u32 n = 0;

    *others = (cpumask_t){ { 0 } };
    for (unsigned c = 0; c < nr_cpus; c++)
        if (c != this_cpu_id() && cpumask_test(&cpu_live_map, c)) {
            cpumask_set(others, c);
            n++;
        }
    return n;
}

/* None that came can go offline; so if there are the same CPUs as in the beginning, and as many came, it was these. */
static bool all_come(void)
{
    cpumask_t others, now;
    u32 nr = find_others(&others);
    u64 until = now_ns() + PATIENCE;
    unsigned c;

    for_each_cpu(c, &others)
        raise_softirq_on(c, SOFTIRQ_INVARIANT);
    while (NR_COME(read_once(call)) < nr && now_ns() < until) {
        smp_call_poll();
        cpu_relax();
    }
    atomic_and(&call, ~OPEN);
    return NR_COME(read_once(call)) == nr && find_others(&now) == nr && !memcmp(&now, &others, sizeof(now));
}

STATIC_PERCPU(bool, wants);

static void lead(bool at_all)
{
    u32 w = read_once(call) & ~(NEXT - 1);

    if (!try_cmpxchg(&call, &w, w | LED | OPEN)) {
        come();         /* another leads */
        return;
    }
    this_cpu(wants) = false;
    frames_drain_pending();
    irq_disable();
    if (all_come())
        look(at_all);
    else
        in_vain++;
    write_once(call, w + NEXT);
    irq_enable();
}

static void softirq(void)
{
    if (this_cpu(wants))
        lead(looks % ALL_EVERY == 0);
    else
        come();
}

STATIC_PERCPU(u32, calls);

/* From syscall.asm, after each hypercall. */
void invariant_after_call(void);
void invariant_after_call(void)
{
    if (likely(!every) || ++this_cpu(calls) % every)
        return;
    this_cpu(wants) = true;
    raise_softirq(SOFTIRQ_INVARIANT);
}

/* --- On demand --------------------------------------------------------------------------------------------- */

static void key(char, struct cpu_regs *)
{
    u32 before = looks;

    for (unsigned i = 0; i < 50 && looks == before; i++)
        lead(true);
    if (looks == before)
        printk(LOG_ERR "The invariant could not be looked at: CPUs do not come to rest\n");
    else
        printk(LOG_ERR "The invariant holds: %u looks, %u in vain\n", looks, in_vain);      /* who pressed the key wants it, whatever is logged */
}

__init void invariant_init(void)
{
    unsigned order = 0;

    while ((PAGE_SIZE << order) < frames_count_bytes())
        order++;
    counts = alloc_pages(order);
    BUG_ON(!counts);
    softirq_register(SOFTIRQ_INVARIANT, softirq);
    debug_key_register('I', key, "look whether the invariant of frames, grants and events holds");
}
