/*
 * Interrupt descriptors, vectors, and what happens when an interrupt comes. Each CPU has a vector space of its
 * own; an irq lives on the CPU that had the most room when the irq was set up.
 */
#include <asm/percpu.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/console.h>
#include <pvisor/cpumask.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include "internal.h"

#define NR_DYNAMIC 1024
#define NR_VECTORS (VEC_DEVICE_LAST - VEC_DEVICE_FIRST + 1 - 2)
/* What domUs leave to dom0, so that one with many devices does not keep dom0's from working: a quarter of both, on each CPU. */
#define IRQS_KEPT (NR_DYNAMIC / 4)
#define VECTORS_KEPT (NR_VECTORS / 4)
#define STORM_COUNT 4096              /* that many interrupts of one source ... */
#define STORM_WINDOW MILLISECS(8)     /* ... in this time are a storm, ... */
#define STORM_PAUSE MILLISECS(10)     /* ... and the source is masked for this long */
/*
 * What interrupts of domUs may take of a CPU in STORM_WINDOW, whoever runs there, counted in messages of a microsecond or two. A line,
 * which is masked and unmasked at its IO-APIC each time, counts for more. At first whoever comes is served: 128,000 a second are more than
 * a fast disk or network card sends to one CPU, since these gather what they have to say. After that each source has an equal part of a
 * rest, so that who floods a CPU does not silence others there. All together are less than 200,000 a second, and leave the CPU some two
 * thirds of its time. dom0's are not counted: it is trusted with the machine, and only STORM_COUNT is for its devices.
 */
#define BUDGET_COMMON 1024
#define BUDGET_REST 512
#define LINE_COSTS 4
#define SAY_AGAIN SECONDS(10)
#define DEVICE_APIC_ID_MAX 254        /* IO-APICs and MSIs have eight bits for it, and 255 means all */

struct irq_desc *irq_descs;
u32 nr_irqs;

static spinlock_t vector_lock = SPINLOCK_INIT(RANK_APIC);
static u16 vector_irq[NR_CPUS][256] PERCPU_SECTION;  /* irq + 1, 0: free */
PERCPU_ENTRY(vector_irq);
static u16 vectors_used[NR_CPUS];
static void (*own_vectors[256])(struct cpu_regs *regs);

/* A window, the round, ends when there is an interrupt after its time that finds it used up. */
struct budget { u64 start; u32 used, round; };
STATIC_PERCPU(struct budget, budgets);

void vector_set_handler(u8 vector, void (*fn)(struct cpu_regs *regs))
{
    own_vectors[vector] = fn;
}

static void mask(struct irq_desc *desc)
{
    if (desc->chip->mask)
        desc->chip->mask(desc);
}

/* --- Vectors ------------------------------------------------------------------------------------------------ */

/*
 * Of the CPUs that devices can name. CPU 0 is one, and never goes offline; the one that we run on may be about to, and is
 * then not online any more.
 */
static unsigned least_loaded_cpu(void)
{
    unsigned c, best = 0;

    for_each_online_cpu(c)
        if (vectors_used[c] < vectors_used[best] && cpu_apic_ids[c] <= DEVICE_APIC_ID_MAX)
            best = c;
    return best;
}

static bool vector_usable(unsigned v)
{
    return v != 0x80 && v != 0x82;    /* guests' software interrupts */
}

/* vector_lock is held. */
static bool take_vector(struct irq_desc *desc, unsigned cpu)
{
    if (desc->is_domus && vectors_used[cpu] >= NR_VECTORS - VECTORS_KEPT)
        return false;
    for (unsigned v = VEC_DEVICE_FIRST; v <= VEC_DEVICE_LAST; v++) {
        if (!vector_usable(v) || vector_irq[cpu][v])
            continue;
        vector_irq[cpu][v] = desc->irq + 1;
        vectors_used[cpu]++;
        desc->cpu = cpu;
        desc->vector = v;
        return true;
    }
    return false;
}

int vector_alloc(struct irq_desc *desc)
{
    u64 flags = spin_lock_irqsave(&vector_lock);
    bool found = take_vector(desc, least_loaded_cpu());

    spin_unlock_irqrestore(&vector_lock, flags);
    return found ? 0 : -ENOSPC;
}

void vector_free(struct irq_desc *desc)
{
    u64 flags = spin_lock_irqsave(&vector_lock);

    if (vector_irq[desc->cpu][desc->vector] == desc->irq + 1) {
        vector_irq[desc->cpu][desc->vector] = 0;
        vectors_used[desc->cpu]--;
    }
    desc->vector = 0;
    spin_unlock_irqrestore(&vector_lock, flags);
}

/*
 * It stays masked, as in a storm that does not end before it is made anew: when the CPU is back its vector may be another's, whom it would
 * interrupt.
 */
static void leave_behind(struct irq_desc *desc)
{
    timer_stop(&desc->storm_timer);
    desc->storm = desc->chip->mask;
    mask(desc);
}

/* How many of domUs' messages, or of all others, find no vector elsewhere. What is under way to the old CPU still finds its irq. */
static u32 move_from(unsigned cpu, bool domus)
{
    u32 left = 0;

    for (u32 i = 0; i < nr_irqs; i++) {
        struct irq_desc *desc = &irq_descs[i];
        u64 flags = spin_lock_irqsave(&desc->lock);

        if (desc->chip && desc->cpu == cpu && desc->is_domus == domus) {
            if (!vector_alloc(desc)) {
                desc->chip->retarget(desc);
            } else {
                leave_behind(desc);
                left++;
            }
        }
        spin_unlock_irqrestore(&desc->lock, flags);
    }
    return left;
}

/* What is kept for dom0 is for those that move, too: so they come first. */
void irq_leave_cpu(unsigned cpu)
{
    u32 hosts = move_from(cpu, false), domus = move_from(cpu, true);

    if (hosts || domus)
        printk(LOG_WARNING "CPU%u goes offline: there are no vectors elsewhere for %u interrupts of dom0's and %u of domUs'\n", cpu, hosts,
               domus);
}

const struct irq_remapper *irq_remapper;

void irq_remap_by(const struct irq_remapper *r)
{
    irq_remapper = r;
    for (u32 i = 0; i < nr_irqs; i++) {
        struct irq_desc *desc = &irq_descs[i];
        u64 flags = spin_lock_irqsave(&desc->lock);

        if (desc->chip)
            desc->chip->retarget(desc);
        spin_unlock_irqrestore(&desc->lock, flags);
    }
}

void irq_cpu_gone(unsigned cpu)
{
    u64 flags = spin_lock_irqsave(&vector_lock);

    memset(vector_irq[cpu], 0, sizeof(vector_irq[cpu]));
    vectors_used[cpu] = 0;
    spin_unlock_irqrestore(&vector_lock, flags);
}

/* --- Life of descriptors ------------------------------------------------------------------------------------- */

/* Makes a port of a guest's pending: what an interrupt is to it. */
static void (*tell_guest)(struct domain *d, u32 port);

static void deliver(struct irq_desc *desc)
{
    for (unsigned i = 0; i < desc->nr_guests; i++) {
        struct irq_guest *g = &desc->guest[i];

        g->awaits_eoi = desc->level;
        tell_guest(g->d, g->port);
    }
}

static bool eoi_awaited(const struct irq_desc *desc)
{
    for (unsigned i = 0; i < desc->nr_guests; i++)
        if (desc->guest[i].awaits_eoi)
            return true;
    return false;
}

/* desc->lock is held. */
static void unmask_if_done(struct irq_desc *desc)
{
    if (desc->masked && !desc->storm && desc->nr_guests && !eoi_awaited(desc))
        desc->chip->unmask(desc);
}

/* A line says for itself what it still wants; of a message what came meanwhile is lost otherwise. desc->lock is held. */
static void go_on(struct irq_desc *desc)
{
    if (desc->level && !desc->fn) {
        unmask_if_done(desc);
        return;
    }
    if (desc->fn || desc->nr_guests)
        desc->chip->unmask(desc);
    deliver(desc);
}

static void end_storm(void *data)
{
    struct irq_desc *desc = data;
    u64 flags = spin_lock_irqsave(&desc->lock);

    if (desc->storm && desc->chip) {
        desc->storm = false;
        go_on(desc);
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

struct irq_desc *irq_alloc_dynamic(bool domus)
{
    struct irq_desc *found = NULL;
    u32 nr_free = 0;

    for (u32 i = nr_gsis; i < nr_irqs; i++)
        if (!irq_descs[i].chip) {
            found = found ?: &irq_descs[i];
            nr_free++;
        }
    return domus && nr_free <= IRQS_KEPT ? NULL : found;
}

void irq_destroy(u32 irq)
{
    struct irq_desc *desc = &irq_descs[irq];
    u64 flags = spin_lock_irqsave(&desc->lock);
    void (*release)(struct irq_desc *) = desc->chip->release;

    mask(desc);
    desc->chip = NULL;
    desc->storm = false;
    timer_stop(&desc->storm_timer);
    vector_free(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
    if (release)
        release(desc);
    if (irq_remapper)
        irq_remapper->release(irq);
}

bool irq_is_host(u32 irq)
{
    return irq < nr_irqs && irq_descs[irq].fn;
}

int irq_request(u32 gsi, void (*fn)(void *data, struct cpu_regs *regs), void *data)
{
    struct irq_desc *desc;
    bool level, low;
    u64 flags;
    int err;

    acpi_gsi_trigger(gsi, &level, &low);
    err = gsi_setup(gsi, level, low);
    if (err)
        return err;
    desc = &irq_descs[gsi];
    flags = spin_lock_irqsave(&desc->lock);
    if (desc->fn || desc->nr_guests) {
        err = -EBUSY;
    } else {
        desc->data = data;
        desc->fn = fn;
        desc->chip->unmask(desc);
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    return err;
}

static void check_interrupt(struct cpu_regs *regs)
{
    (void)regs;   /* its work is done on the way out */
}

static void dump_key(char, struct cpu_regs *)
{
    irq_dump();
}

void irq_init(void (*set_pending)(struct domain *d, u32 port))
{
    tell_guest = set_pending;
    ioapic_init();
    nr_irqs = nr_gsis + NR_DYNAMIC;
    irq_descs = xzalloc_array(struct irq_desc, nr_irqs);
    if (!irq_descs)
        panic("no memory for %u interrupt descriptors", nr_irqs);
    for (u32 i = 0; i < nr_irqs; i++) {
        irq_descs[i].irq = i;
        spin_lock_init(&irq_descs[i].lock, RANK_IRQ);
        timer_init(&irq_descs[i].storm_timer, end_storm, &irq_descs[i], 0);
    }
    vector_set_handler(VEC_EVENT_CHECK, check_interrupt);
    debug_key_register('i', dump_key, "dump interrupt bindings");
}

/* --- Interrupts ---------------------------------------------------------------------------------------------- */

/* Guests can give cause for the same line as often as they like. */
static bool may_say(u64 *last, u64 now)
{
    if (*last && now - *last < SAY_AGAIN)
        return false;
    *last = now;
    return true;
}

/* By itself more than anyone can handle. */
static bool is_burst(struct irq_desc *desc)
{
    u64 now, start = desc->burst_start;

    if (++desc->burst < STORM_COUNT)
        return false;
    now = now_ns();
    desc->burst = 0;
    desc->burst_start = now;
    return now - start < STORM_WINDOW;
}

static bool is_for_domu(const struct irq_desc *desc)
{
    for (unsigned i = 0; i < desc->nr_guests; i++)
        if (!desc->guest[i].d->is_hardware)
            return true;
    return false;
}

/* Together with others more than this CPU is to have: the common part is used up, and this source's of the rest. */
static bool is_over_budget(struct irq_desc *desc)
{
    unsigned cpu = this_cpu_id();
    struct budget *b = &cpu_var(budgets, cpu);
    u32 costs = desc->level ? LINE_COSTS : 1;
    u64 now;

    b->used += costs;
    if (likely(b->used <= BUDGET_COMMON))
        return false;
    now = now_ns();
    if (now - b->start >= STORM_WINDOW) {
        *b = (struct budget){ now, costs, b->round + 1 };
        return false;
    }
    if (desc->rest_round != b->round)
        desc->rest_used = 0;
    desc->rest_round = b->round;
    desc->rest_used += costs;
    return desc->rest_used > BUDGET_REST / max(vectors_used[cpu], (u16)1);
}

/* True if the source is to be left masked for a while. */
static bool is_storm(struct irq_desc *desc)
{
    return desc->chip->mask && (is_burst(desc) || (is_for_domu(desc) && is_over_budget(desc)));
}

/* The pause ends on the CPU that the source interrupts: those of many CPUs would be a load for one. */
static void begin_storm(struct irq_desc *desc)
{
    u64 now = now_ns();

    desc->storm = true;
    timer_migrate(&desc->storm_timer, desc->cpu);
    timer_set(&desc->storm_timer, now + STORM_PAUSE);
    if (!may_say(&desc->storm_said, now))
        return;
    if (desc->nr_guests)
        domain_log(desc->guest[0].d, "irq %u (%s): too many interrupts, masked for some ms now and then", desc->irq, desc->chip->name);
    else
        printk(LOG_WARNING "irq %u (%s): too many interrupts, masked for some ms now and then\n", desc->irq, desc->chip->name);
}

/* desc->lock is held. True if the hypervisor's own handler is to run. */
static bool take_interrupt(struct irq_desc *desc)
{
    bool begins;

    if (!desc->chip)
        return false;
    desc->count++;
    begins = !desc->storm && is_storm(desc);
    if (begins)
        begin_storm(desc);
    if (desc->level || begins || (!desc->fn && !desc->nr_guests))
        mask(desc);
    if (desc->storm)
        return false;
    if (!desc->fn)
        deliver(desc);
    return desc->fn;
}

static void run_own_handler(struct irq_desc *desc, struct cpu_regs *regs)
{
    desc->fn(desc->data, regs);
    if (!desc->level)
        return;
    spin_lock(&desc->lock);
    desc->chip->unmask(desc);
    spin_unlock(&desc->lock);
}

/* One that was under way when its vector was freed; or where interrupts are not remapped whatever a domU's function sends. */
static void say_unused(unsigned vector)
{
    static u64 said;

    if (may_say(&said, now_ns()))
        printk(LOG_DEBUG "CPU%u: interrupt with unused vector %#x\n", this_cpu_id(), vector);
}

static void handle_device(unsigned vector, struct cpu_regs *regs)
{
    u16 entry = vector_irq[this_cpu_id()][vector];
    struct irq_desc *desc = &irq_descs[entry - 1];
    bool own;

    if (!entry) {
        lapic_eoi();
        say_unused(vector);
        return;
    }
    spin_lock(&desc->lock);
    own = take_interrupt(desc);
    spin_unlock(&desc->lock);
    lapic_eoi();
    if (own)
        run_own_handler(desc, regs);
}

void do_interrupt(struct cpu_regs *regs)
{
    unsigned vector = regs->entry_vector & 0xff;

    if (own_vectors[vector]) {
        lapic_eoi();
        own_vectors[vector](regs);
    } else if (vector >= VEC_DEVICE_FIRST && vector <= VEC_DEVICE_LAST) {
        handle_device(vector, regs);
    } else if (vector > VEC_DEVICE_LAST && vector != VEC_SPURIOUS) {
        lapic_eoi();
    }
    /* Spurious ones of the local APIC and of the 8259s want no EOI. */
}

/* --- Guests -------------------------------------------------------------------------------------------------- */

static struct irq_guest *find_guest(struct irq_desc *desc, const struct domain *d)
{
    for (unsigned i = 0; i < desc->nr_guests; i++)
        if (desc->guest[i].d == d)
            return &desc->guest[i];
    return NULL;
}

/* desc->lock is held by the callers of the next two. */
static int bind_locked(struct irq_desc *desc, struct irq_guest g, bool shareable)
{
    if (!desc->chip)
        return -EINVAL;
    if (desc->fn || find_guest(desc, g.d))
        return -EBUSY;
    if (desc->nr_guests && !(shareable && desc->shareable && desc->level))
        return -EBUSY;
    if (desc->nr_guests == MAX_SHARERS)
        return -EBUSY;
    desc->shareable = shareable;
    desc->guest[desc->nr_guests++] = g;
    /* Who is bound anew ends no pause by it. */
    if (desc->nr_guests == 1 && !desc->storm)
        desc->chip->unmask(desc);
    return 0;
}

static void unbind_locked(struct irq_desc *desc, const struct domain *d)
{
    struct irq_guest *g = find_guest(desc, d);

    if (!g)
        return;
    *g = desc->guest[--desc->nr_guests];
    if (!desc->nr_guests)
        mask(desc);
    else
        unmask_if_done(desc);
}

int irq_bind_guest(struct irq_desc *desc, struct domain *d, u32 pirq, u32 port, bool shareable)
{
    u64 flags = spin_lock_irqsave(&desc->lock);
    int err = bind_locked(desc, (struct irq_guest){ d, pirq, port, false }, shareable);

    spin_unlock_irqrestore(&desc->lock, flags);
    return err;
}

void irq_unbind_guest(struct irq_desc *desc, struct domain *d)
{
    u64 flags = spin_lock_irqsave(&desc->lock);

    if (desc->chip)
        unbind_locked(desc, d);
    spin_unlock_irqrestore(&desc->lock, flags);
}

void irq_guest_eoi(struct irq_desc *desc, struct domain *d)
{
    u64 flags = spin_lock_irqsave(&desc->lock);
    struct irq_guest *g = find_guest(desc, d);

    if (desc->chip && g && g->awaits_eoi) {
        g->awaits_eoi = false;
        unmask_if_done(desc);
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

static void dump_one(struct irq_desc *desc)
{
    printk("  irq %3u vector %#04x cpu %u %-14s%s%s count %lu", desc->irq, desc->vector, desc->cpu, desc->chip->name,
           desc->low ? " low" : "", desc->masked ? " masked" : "", desc->count);
    if (desc->fn)
        printk(" hypervisor");
    for (unsigned i = 0; i < desc->nr_guests; i++)
        printk(" d%u:pirq%u:port%u%s", desc->guest[i].d->id, desc->guest[i].pirq, desc->guest[i].port,
               desc->guest[i].awaits_eoi ? "(in service)" : "");
    printk("\n");
}

void irq_dump(void)
{
    for (u32 i = 0; i < nr_irqs; i++) {
        u64 flags = spin_lock_irqsave(&irq_descs[i].lock);

        if (irq_descs[i].chip)
            dump_one(&irq_descs[i]);
        spin_unlock_irqrestore(&irq_descs[i].lock, flags);
    }
}
