/*
 * CPUs come and go.
 *
 *   ABSENT --INIT, SIPI--> STARTING --trampoline, start_secondary()--> RUNNING --smp_leave()--> STOPPED --INIT, SIPI--> ...
 *
 * A CPU number belongs to one local APIC for good once that has answered. What a CPU needs in memory stays when it
 * goes offline: timers and vCPUs may still be found through it.
 */
#include <asm/atomic.h>
#include <asm/desc.h>
#include <asm/features.h>
#include <asm/isolation.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/pv.h>
#include <asm/smp.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/cpumask.h>
#include <pvisor/cpupool.h>
#include <pvisor/hypercall.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/microcode.h>
#include <pvisor/printk.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include "internal.h"

#define ANSWER_TIMEOUT SECONDS(2)      /* from SIPI to the first instruction of ours */
#define START_TIMEOUT SECONDS(20)      /* from there to running; emulators share few real CPUs */
#define LOW_MEMORY_END 0xa0000UL

extern char trampoline_start[], trampoline_64[], trampoline_gdt[], trampoline_data[], trampoline_end[], secondary_entry[];
void start_secondary(void) noreturn_fn;

static u32 opt_maxcpus = NR_CPUS;
CMDLINE_UINT("maxcpus", opt_maxcpus);

static int parse_nosmp(const char *value)
{
    bool alone;
    int rc = cmdline_bool(value, &alone);

    if (!rc && alone)
        opt_maxcpus = 1;
    return rc;
}
CMDLINE_OPTION("nosmp", parse_nosmp);

static u32 apic_ids[NR_CPUS];          /* of the CPUs known, online or not */
static unsigned nr_known = 1;
static u64 trampoline_page;            /* machine address; 0: there is no room */
static unsigned leaving = NR_CPUS;     /* the CPU that a control call takes offline now */

/* --- The trampoline ------------------------------------------------------------------------------------------ */

/*
 * The highest page of RAM below the video memory. A CPU that starts is in ring 0 there, so nobody else may write to it (cpu/hwdom.c);
 * it is written anew for each start all the same, since devices and firmware can.
 */
static void find_trampoline_page(void)
{
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *e = &host_e820[i];
        u64 end = min(e->start + e->size, LOW_MEMORY_END) & PAGE_MASK;

        if (e->type == E820_RAM && e->start < LOW_MEMORY_END && end >= e->start + PAGE_SIZE && end > PAGE_SIZE)
            trampoline_page = max(trampoline_page, end - PAGE_SIZE);
    }
}

maddr_t smp_trampoline(void) { return maddr(trampoline_page); }

static struct trampoline_data *trampoline(void)
{
    return (void *)((char *)maddr_to_virt(maddr(trampoline_page)) + (trampoline_data - trampoline_start));
}

static void write_trampoline(unsigned cpu)
{
    struct trampoline_data *t = trampoline();

    memcpy(maddr_to_virt(maddr(trampoline_page)), trampoline_start, (size_t)(trampoline_end - trampoline_start));
    *t = (struct trampoline_data){
        .stack = (u64)cpu_info_of(cpu), .hyp_cr3 = virt_to_maddr(hyp_l4).v, .entry = (u64)secondary_entry,
        .boot_cr3 = (u32)virt_to_maddr(boot_l4).v, .cr4 = CR4_PAE | CR4_PSE,
        .efer = (u32)(rdmsr(MSR_EFER) & ~EFER_LMA),
        .far_offset = (u32)(trampoline_page + (u64)(trampoline_64 - trampoline_start)), .far_selector = 8,
        .gdt_limit = 23, .gdt_base = (u32)(trampoline_page + (u64)(trampoline_gdt - trampoline_start)),
    };
}

/* --- Starting ------------------------------------------------------------------------------------------------ */

/* The new CPU, on its own stack and the final page tables. */
void start_secondary(void)
{
    unsigned cpu = this_cpu_id();
    bool back = cpu_states[cpu] == CPU_STOPPED;

    desc_init_cpu(cpu);
    write_once(cpu_states[cpu], CPU_STARTING);
    ucode_load_kept();
    cpu_init_features();
    lapic_init_cpu();
    cpumask_set(&cpu_live_map, cpu);
    if (back)
        sched_return_cpu(cpu);
    else
        sched_init_cpu(cpu);
    time_init_cpu();
    watchdog_init_cpu();
    cpumask_set(&cpu_online_map, cpu);
    cpupool_cpu_online(cpu);
    write_once(cpu_states[cpu], CPU_RUNNING);
    vcpu_start_on_cpu(current);
}

static bool wait_for(const u64 *word, u64 value, u64 timeout)
{
    u64 end = now_ns() + timeout;

    while (read_once(*word) != value && now_ns() < end) {
        smp_call_poll();
        cpu_relax();
    }
    return read_once(*word) == value;
}

/* Meanwhile the new CPU compares its clock with ours. */
static bool wait_until_running(unsigned cpu)
{
    u64 end = now_ns() + START_TIMEOUT;

    while (read_once(cpu_states[cpu]) != CPU_RUNNING) {
        if (now_ns() > end)
            return false;
        time_sync_serve();
        smp_call_poll();
        cpu_relax();
    }
    return true;
}

static int start_cpu(unsigned cpu, u32 apic_id)
{
    struct trampoline_data *t = trampoline();

    desc_prepare_cpu(cpu);
    isolation_prepare_cpu(cpu);
    write_trampoline(cpu);
    smp_mb();
    lapic_send_init_sipi(apic_id, (u8)(trampoline_page >> PAGE_SHIFT));
    /* Whoever comes later finds no stack and stops. */
    if (!wait_for(&t->stack, 0, ANSWER_TIMEOUT) && xchg(&t->stack, 0)) {
        printk(LOG_ERR "The CPU with APIC id %u does not answer; going on without it\n", apic_id);
        return -EIO;
    }
    nr_cpus = max(nr_cpus, cpu + 1);
    if (!wait_until_running(cpu))
        panic("CPU%u (APIC id %u) began to start and did not finish", cpu, apic_id);
    printk(LOG_DEBUG "CPU%u has APIC id %u\n", cpu, apic_id);
    return 0;
}

static void call_interrupt(struct cpu_regs *)
{
    smp_call_poll();
}

void smp_call_init(void)
{
    cpumask_set(&cpu_live_map, 0);
    vector_set_handler(VEC_CALL, call_interrupt);
}

void smp_init(void)
{
    find_trampoline_page();
    if (!trampoline_page)
        printk(LOG_ERR "No memory below 1 MiB: only the boot CPU is used\n");
    apic_ids[0] = lapic_id();
    cpu_states[0] = CPU_RUNNING;
    watchdog_init_cpu();
    for (unsigned i = 0; i < acpi_info.nr_cpus && trampoline_page && nr_known < NR_CPUS; i++) {
        const struct acpi_cpu *c = &acpi_info.cpu[i];

        if (c->apic_id == apic_ids[0])
            continue;
        if (!lapic_can_name(c->apic_id)) {
            printk(LOG_WARNING "The CPU with APIC id %u is not used: that takes x2APIC mode\n", c->apic_id);
            continue;
        }
        apic_ids[nr_known] = c->apic_id;
        if (nr_known >= max(opt_maxcpus, 1u) || !start_cpu(nr_known, c->apic_id))
            nr_known++;
    }
    printk("%u CPUs online of %u\n", cpumask_weight(&cpu_online_map), nr_known);
}

/* --- Going offline and coming back --------------------------------------------------------------------------- */

/*
 * What a CPU that has never run takes from the heap: some 50 frames, of which its stacks are eight in one piece. Who takes them does
 * not expect to find none, so this looks first whether they are there, and keeps them from domains meanwhile.
 */
#define ORDER_FOR_A_CPU 7

static bool claim_memory(u64 *claim)
{
    mfn_t m = heap_claim(claim, 1UL << ORDER_FOR_A_CPU) ? alloc_frames(ORDER_FOR_A_CPU, MEMF_NO_ZERO) : INVALID_MFN;

    if (mfn_eq(m, INVALID_MFN))
        return false;
    free_frames(m, ORDER_FOR_A_CPU);
    return true;
}

int cpu_online(unsigned cpu)
{
    u64 claim = 0;
    int rc;

    if (cpu >= nr_known)
        return refuse(-EINVAL, "CPU %u, there are %u", cpu, nr_known);
    if (leaving != NR_CPUS)
        return refuse(-EINVAL, "CPU %u: one at a time, CPU %u is going offline", cpu, leaving);
    if (cpumask_test(&cpu_online_map, cpu))
        return -EEXIST;
    if (cpu_states[cpu] == CPU_STOPPED || claim_memory(&claim))
        rc = start_cpu(cpu, apic_ids[cpu]);
    else
        rc = refuse(-ENOMEM, "no memory for what CPU %u needs to run", cpu);
    (void)!heap_claim(&claim, 0);
    if (!rc)
        printk("CPU%u is online\n", cpu);
    return rc;
}

static int begin_leaving(unsigned cpu)
{
    int rc;

    if (!cpu || cpu >= nr_known || !cpumask_test(&cpu_online_map, cpu))
        return refuse(-EINVAL, "CPU %u: not online, or the one that the machine started with", cpu);
    rc = cpupool_cpu_leaves(cpu);
    if (rc)
        return rc;
    leaving = cpu;
    cpumask_clear(&cpu_online_map, cpu);
    irq_leave_cpu(cpu);
    raise_softirq_on(cpu, SOFTIRQ_SCHEDULE);
    return 0;
}

/* The calling vCPU may run on the very CPU: it is moved when the call gives way. */
int cpu_offline(unsigned cpu)
{
    int rc = leaving == cpu ? 0 : leaving != NR_CPUS ? -EBUSY : begin_leaving(cpu);

    if (rc)
        return rc;
    if (this_cpu_id() == cpu)
        return -ERESTART_HYPERCALL;
    sched_fini_cpu(cpu);
    if (read_once(cpu_states[cpu]) != CPU_STOPPED)
        return -ERESTART_HYPERCALL;
    sched_fini_cpu(cpu);
    irq_cpu_gone(cpu);
    leaving = NR_CPUS;
    printk("CPU%u is offline\n", cpu);
    return 0;
}
