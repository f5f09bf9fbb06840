/* What debug keys tell about domains: q all of them, e event channels, g grant tables, m memory. */
#include <asm/dirty.h>
#include <asm/pt_format.h>
#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>
#include <pvisor/printk.h>

static void for_each_domain_do(void (*fn)(struct domain *d))
{
    struct domain *d;

    for (u32 id = 0; (d = domain_get_next(id)) != NULL; id = d->id + 1u) {
        fn(d);
        domain_put(d);
    }
}

static void dump_vcpu(const struct vcpu *v)
{
    static const char *const states[] = { "running", "runnable", "blocked", "offline" };
    const u8 guest_shared *info = v->info;

    printk("  v%u on CPU%u: %s, pause flags %#x, upcall %s%s\n", v->id, v->cpu, states[v->runstate.state & 3],
           v->pause_flags, read_shared_again(info[0]) ? "pending" : "clear", read_shared_again(info[1]) ? ", masked" : "");
}

static void dump_domain(struct domain *d)
{
    struct vcpu *v;

    printk("d%u: %s, %lu of at most %lu pages, %lu shared frames, %lu tables, %u references%s%s%s\n", d->id,
           d->arch.fmt->name, d->tot_pages, d->max_pages, d->shared_frames, d->arch.nr_tables, d->refs,
           dirty_log_is_kept(d) ? ", writes are logged" : "", d->is_shut_down ? ", shut down" : "", d->dying ? ", dying" : "");
    for_each_vcpu(d, v)
        dump_vcpu(v);
}

static void key_domains(char, struct cpu_regs *)
{
    for_each_domain_do(dump_domain);
}

static void key_events(char, struct cpu_regs *)
{
    for_each_domain_do(evtchn_dump);
}

static void key_grants(char, struct cpu_regs *)
{
    for_each_domain_do(gnttab_dump);
}

static void key_memory(char, struct cpu_regs *)
{
    printk("Memory: %lu KiB of %lu KiB free, %lu KiB claimed\n", heap_free_frames() << 2, heap_total_frames() << 2,
           claimed_frames() << 2);
}

static void key_dom0_registers(char, struct cpu_regs *)
{
    struct vcpu *v;

    if (!dom0)
        return;
    for_each_vcpu(dom0, v) {
        printk("*** Domain 0, vCPU %u ***\n", v->id);
        vcpu_show_registers(v);
    }
}

void domain_debug_keys_init(void)
{
    debug_key_register('0', key_dom0_registers, "dump dom0 registers");
    debug_key_register('q', key_domains, "dump domains and their vCPUs");
    debug_key_register('e', key_events, "dump event channels");
    debug_key_register('g', key_grants, "dump grant tables");
    debug_key_register('m', key_memory, "dump memory use");
}
