/*
 * Runtime services (UEFI specification 2.10, chapter 8). They are called where the firmware itself has put them: SetVirtualAddressMap() is
 * never used, so all pointers are physical, and the tables that a call runs on map physical addresses to themselves:
 *
 *   below slot 256    the memory map's runtime regions, and the arena: stack, arguments, data
 *   256 to 271        the hypervisor, as on the tables that were left, the vCPU's descriptors included: exceptions find their handlers
 *
 * No guest's memory is there, and no breakpoint of a guest's: the firmware's addresses are such as a guest's user may name, and one on its
 * code would be met again after each return from its exception. The stack has a struct cpu_info at its top, as all have: a copy.
 */
#include <asm/fpu.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/efi.h>
#include <pvisor/lib.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>

#define SERVICES_SIGNATURE 0x56524553544e5552UL     /* "RUNTSERV" */
#define SERVICES_SIZE 136
#define CR3_LIMIT (1UL << 47)       /* physical addresses that can be mapped to themselves */
#define RESET_COLD 0

struct efi_way_back { u64 cr3, rsp; };
u64 efi_enter(u64 function, const u64 args[5], u64 stack, u64 cr3, struct efi_way_back *back);
extern const char efi_left[];

struct efi_arena *efi_arena;

static u64 *root;
static bool usable;
static u8 services[SERVICES_SIZE];
static struct efi_way_back way_back;
static unsigned running_on = NR_CPUS;       /* the CPU that is in the firmware */

static u64 service(unsigned offset)
{
    u64 v;

    memcpy(&v, services + offset, sizeof(v));
    return v;
}

u32 efi_services_revision(void)
{
    u32 revision;

    memcpy(&revision, services + 8, sizeof(revision));
    return read_once(usable) ? revision : 0;
}

u64 efi_pointer(const void *in_arena) { return virt_to_maddr(in_arena).v; }

/* --- The tables --- */

static __init bool map_itself(u64 start, u64 end, u64 flags)
{
    return end <= CR3_LIMIT && !(start & ~PAGE_MASK) && hyp_map_in(root, start, maddr(start), (end - start) >> PAGE_SHIFT, flags) == 0;
}

/* Code and data are not told apart: old firmware has code in what it calls data, and nothing but the firmware runs here. */
static __init bool map_firmware(void)
{
    for (unsigned i = 0; i < efi_nr_regions; i++) {
        const struct efi_region *r = &efi_regions[i];
        u64 uncached = r->attributes & EFI_MEMORY_WB ? 0 : PTE_PCD | PTE_PWT;

        if (efi_is_runtime(r) && !map_itself(r->start, r->end, (HYP_RW & ~hyp_nx) | uncached))
            return false;
    }
    return true;
}

static __init bool make_tables(void)
{
    u64 arena = efi_pointer(efi_arena);

    root = alloc_pages(0);
    if (!root)
        return false;
    return map_firmware() && map_itself(arena, arena + ROUND_UP(sizeof(*efi_arena), PAGE_SIZE), HYP_RW);
}

/* The table of services, checked as far as it can be: each leads into the firmware's own memory. */
static __init bool read_services(void)
{
    const struct efi_region *r = efi_region_at(efi_info.runtime_services);
    const void *p;

    if (!efi_is_runtime(r) || r->end - efi_info.runtime_services < SERVICES_SIZE)
        return false;
    p = ioremap(maddr(efi_info.runtime_services), SERVICES_SIZE);
    if (!p)
        return false;
    memcpy(services, p, SERVICES_SIZE);
    iounmap((void *)p, SERVICES_SIZE);
    for (unsigned at = EFI_GET_TIME; at < SERVICES_SIZE; at += 8)
        if (!efi_is_runtime(efi_region_at(service(at))))
            return false;
    return service(0) == SERVICES_SIGNATURE;
}

/* Nothing else runs any more. A CPU that was stopped within the firmware leaves it as it is. */
static void reset(void)
{
    if (usable && read_once(running_on) == NR_CPUS)
        printk(LOG_ERR "UEFI: the firmware did not reset the machine (%#lx)\n", efi_call(EFI_RESET_SYSTEM, RESET_COLD, 0, 0, 0, 0));
}

__init void efi_call_init(void)
{
    unsigned order = 0;

    if (!efi_info.present)
        return;
    if (!read_services()) {
        printk(LOG_WARNING "UEFI: the table of runtime services makes no sense: they are not used\n");
        return;
    }
    while ((PAGE_SIZE << order) < sizeof(*efi_arena))
        order++;
    efi_arena = alloc_pages(order);
    usable = efi_arena && make_tables();
    if (usable)
        power_reset_by_firmware(reset);
    else
        printk(LOG_WARNING "UEFI: the firmware's memory cannot be mapped: its runtime services are not used\n");
}

/* --- A call --- */

static void map_ourselves(void)
{
    const u64 *now = maddr_to_virt(maddr(read_cr3() & PTE_MFN_MASK));

    memcpy(root + HYP_L4_FIRST, now + HYP_L4_FIRST, (HYP_L4_LAST + 1 - HYP_L4_FIRST) * sizeof(*root));
}

/* A copy at the top of the firmware's stack. An interrupt, if the firmware lets one in, leaves its work there. */
static struct cpu_info *lent_info(void)
{
    return (struct cpu_info *)(efi_arena->stack + STACK_SIZE) - 1;
}

efi_status efi_call(enum efi_service s, u64 a, u64 b, u64 c, u64 d, u64 e)
{
    u64 args[5] = { a, b, c, d, e }, flags, status, breakpoints;
    struct cpu_info *lent = lent_info();

    if (!usable)
        return EFI_ABORTED;
    flags = irq_save();
    breakpoints = read_dr7();
    fpu_lend();
    write_dr7(DR7_RESERVED_SET);
    map_ourselves();
    memcpy(lent, cpu_info(), sizeof(*lent));
    lent->softirq_pending = 0;
    write_once(running_on, this_cpu_id());
    status = efi_enter(service(s), args, efi_pointer(lent), virt_to_maddr(root).v, &way_back);
    write_once(running_on, NR_CPUS);
    cpu_info()->softirq_pending |= lent->softirq_pending;
    write_dr7(breakpoints);
    fpu_take_back();
    irq_restore(flags);
    return status;
}

bool efi_faulted(struct cpu_regs *r)
{
    if (read_once(running_on) != this_cpu_id() || r->rip >= CR3_LIMIT)
        return false;
    printk(LOG_ERR "UEFI: the firmware's runtime services have failed (exception %u, error code %#x, at %#lx, address %#lx): they are not "
           "called any more\n", r->entry_vector, r->error_code, r->rip, read_cr2());
    usable = false;
    r->rip = (u64)efi_left;
    r->rax = EFI_ABORTED;
    r->rbx = way_back.cr3;
    r->r12 = way_back.rsp;
    return true;
}
