/*
 * Banks of machine checks, looked at now and then. What each CPU finds it leaves in a place of its own, since a cross call takes no lock;
 * the CPU that asked puts it into a queue, for dom0 and the log.
 */
#include <asm/features.h>
#include <asm/mcheck.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/mca.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>

#define PERIOD SECONDS(30)
#define MAX_BANKS 32u
#define QUEUE 64u               /* what dom0 has not taken; a power of 2 */
#define PER_LOOK 8u             /* of one CPU; the others stay in their banks until the next look */

struct found {
    u32 nr;
    struct machine_check check[PER_LOOK];
};
STATIC_PERCPU(struct found, finds);

static struct machine_check queue[QUEUE];
static u64 taken, found;        /* how many, ever: the queue's ends */
static spinlock_t queue_lock = SPINLOCK_INIT(RANK_LEAF);
static struct timer timer;
static bool at_boot = true;
static void (*notify)(u32 virq);

/* Registers of banks that an emulated CPU claims and has not got read as 0. */
static u64 bank_register(u32 msr)
{
    u64 v;

    return rdmsr_safe(msr, &v) ? 0 : v;
}

static void look_at_bank(struct found *f, u32 bank)
{
    u64 status = bank_register(MSR_MC_STATUS(bank));

    if (!(status & MC_STATUS_VALID) || (status & MC_STATUS_UNCORRECTED && !at_boot))
        return;
    f->check[f->nr++] = (struct machine_check){
        .status = status, .mcg_status = bank_register(MSR_MCG_STATUS), .tsc = rdtsc(),
        .cpu = this_cpu_id(), .bank = bank, .was_there = at_boot,
        .addr = status & MC_STATUS_HAS_ADDR ? bank_register(MSR_MC_ADDR(bank)) : 0,
        .misc = status & MC_STATUS_HAS_MISC ? bank_register(MSR_MC_MISC(bank)) : 0,
    };
    (void)wrmsr_safe(MSR_MC_STATUS(bank), 0);
}

/* On each CPU, with interrupts off. */
static void look(void *)
{
    struct found *f = &this_cpu(finds);
    u32 banks = min((u32)bank_register(MSR_MCG_CAP) & 0xff, MAX_BANKS);

    f->nr = 0;
    for (u32 bank = 0; bank < banks && f->nr < PER_LOOK; bank++)
        look_at_bank(f, bank);
}

/* What dom0 does not take is kept from the first on: later errors often follow from earlier ones. */
static void put(const struct machine_check *m)
{
    u64 flags = spin_lock_irqsave(&queue_lock);
    bool room = found - taken < QUEUE;

    if (room) {
        queue[found % QUEUE] = *m;
        queue[found % QUEUE].id = found + 1;
        found++;
    }
    spin_unlock_irqrestore(&queue_lock, flags);
    if (!room)
        printk(LOG_WARNING "Machine check: dom0 has not taken the %u before it, so it is in this log alone\n", QUEUE);
}

static void tell(const struct machine_check *m)
{
    printk(LOG_WARNING "Machine check: CPU%u, bank %u: %s error%s, status %#lx, address %#lx, misc %#lx\n", m->cpu, m->bank,
           m->status & MC_STATUS_UNCORRECTED ? "an uncorrected" : "a corrected", m->was_there ? " from before the start" : "", m->status,
           m->addr, m->misc);
}

/* A CPU that has gone meanwhile has found nothing. */
static bool collect(struct found *f)
{
    bool any = f->nr != 0;

    for (u32 i = 0; i < f->nr; i++) {
        tell(&f->check[i]);
        put(&f->check[i]);
    }
    f->nr = 0;
    return any;
}

static void look_everywhere(void *)
{
    cpumask_t cpus = cpu_online_map;
    u64 flags = irq_save();
    bool any = false;
    unsigned cpu;

    look(NULL);
    irq_restore(flags);
    smp_call(&cpus, look, NULL);
    for_each_cpu(cpu, &cpus)
        any |= collect(&cpu_var(finds, cpu));
    if (any)
        notify(VIRQ_MCA);
    timer_set(&timer, now_ns() + PERIOD);
}

void mcheck_init(void (*send)(u32 virq))
{
    if (!cpu_has(X86_FEATURE_MCA))
        return;
    notify = send;
    timer_init(&timer, look_everywhere, NULL, 0);
    look_everywhere(NULL);
    at_boot = false;
}

bool mcheck_oldest(struct machine_check *m)
{
    u64 flags = spin_lock_irqsave(&queue_lock);
    bool any = taken != found;

    if (any)
        *m = queue[taken % QUEUE];
    spin_unlock_irqrestore(&queue_lock, flags);
    return any;
}

bool mcheck_taken(u64 id)
{
    u64 flags = spin_lock_irqsave(&queue_lock);
    bool is_oldest = taken != found && queue[taken % QUEUE].id == id;

    taken += is_oldest;
    spin_unlock_irqrestore(&queue_lock, flags);
    return is_oldest;
}
