/*
 * Switching between vCPUs, and within a 64-bit vCPU between kernel and user mode. There is one stack per CPU; a vCPU that
 * does not run keeps its registers in v->arch.regs.
 */
#include <asm/desc.h>
#include <asm/extable.h>
#include <asm/fpu.h>
#include <asm/isolation.h>
#include <asm/mm.h>
#include <asm/pv.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/domain.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>

void ret_to_guest(void);
void stack_reset_jump(void *stack, void (*fn)(void)) noreturn_fn;
void sched_idle_loop(void);

struct cpu_regs *vcpu_regs(struct vcpu *v) { return v == current ? guest_regs() : &v->arch.regs; }

/* --- Address spaces --- */

void pv_load_cr3(struct vcpu *v)
{
    cpumask_set(&v->domain->arch.dirty_cpus, this_cpu_id());
    load_guest_cr3(v->arch.cr3);
}

void pv_toggle_mode(struct vcpu *v)
{
    pv_change_mode(v, !v->arch.kernel_mode);
}

u64 pv_read_cr3(struct vcpu *v)
{
    u64 m = v->arch.kernel_mode || v->domain->arch.word == ABI_32 ? v->arch.root_kernel.v : v->arch.root_user.v;

    return v->domain->arch.word == ABI_64 ? m << PAGE_SHIFT : XEN_PFN_TO_CR3_32(m);
}

int pv_write_cr3(struct vcpu *v, u64 cr3)
{
    u64 m = v->domain->arch.word == ABI_64 ? cr3 >> PAGE_SHIFT : XEN_CR3_TO_PFN_32((u32)cr3);
    return pv_new_root(v, mfn(m), false);
}

/* --- Segment registers --- */

#define LOAD_SELECTOR(reg, sel)                                                                        \
    __asm__ volatile("1: movl %k0, %%" #reg "\n2:\n"                                                   \
                     ".pushsection .text.fixup, \"ax\"\n3: xorl %k0, %k0\n jmp 1b\n.popsection\n"      \
                     EX_TABLE("1b", "3b") : : "r"((u64)(sel)) : "memory")
#define READ_SELECTOR(reg) ({ u32 s_; __asm__ volatile("movl %%" #reg ", %0" : "=r"(s_)); (u16)s_; })

static void save_segments(struct vcpu *v)
{
    struct cpu_regs *r = &v->arch.regs;

    r->ds = READ_SELECTOR(ds);
    r->es = READ_SELECTOR(es);
    r->fs = READ_SELECTOR(fs);
    r->gs = READ_SELECTOR(gs);
    if (v->domain->arch.word == ABI_32)
        return;
    v->arch.fs_base = rdmsr(MSR_FS_BASE);
    *(v->arch.kernel_mode ? &v->arch.gs_base_kernel : &v->arch.gs_base_user) = rdmsr(MSR_GS_BASE);
    *(v->arch.kernel_mode ? &v->arch.gs_base_user : &v->arch.gs_base_kernel) = rdmsr(MSR_KERNEL_GS_BASE);
}

static void load_segments(struct vcpu *v)
{
    const struct cpu_regs *r = &v->arch.regs;

    LOAD_SELECTOR(ds, r->ds);
    LOAD_SELECTOR(es, r->es);
    LOAD_SELECTOR(fs, r->fs);
    LOAD_SELECTOR(gs, r->gs);
    if (v->domain->arch.word == ABI_32)
        return;
    wrmsr(MSR_FS_BASE, v->arch.fs_base);
    wrmsr(MSR_GS_BASE, v->arch.kernel_mode ? v->arch.gs_base_kernel : v->arch.gs_base_user);
    wrmsr(MSR_KERNEL_GS_BASE, v->arch.kernel_mode ? v->arch.gs_base_user : v->arch.gs_base_kernel);
}

/* --- Switching --- */

static void leave_vcpu(struct vcpu *prev)
{
    if (is_idle_vcpu(prev))
        return;
    prev->arch.regs = *guest_regs();
    save_segments(prev);
    fpu_ctxt_switch_from(prev);
    load_cpu_gdt();
    set_cpu_ldt(0, 0);
}

/*
 * The areas that next asked for are at kernel addresses, which a 64-bit vCPU's user tables do not map. Asked once for each switch: another
 * vCPU may give an area back in between, and kernel tables must not stay.
 */
static bool starts_in_kernel_tables(const struct vcpu *next)
{
    return next->domain->arch.word == ABI_64 && !next->arch.kernel_mode &&
           (read_once(next->runstate_area.v) || read_once(next->time_area.v));
}

static void load_first_cr3(struct vcpu *next, bool kernel_tables)
{
    cpumask_set(&next->domain->arch.dirty_cpus, this_cpu_id());
    load_guest_cr3(kernel_tables ? next->arch.walked[1] : next->arch.cr3);
}

static void update_areas(struct vcpu *next, bool kernel_tables)
{
    vcpu_time_update(next);
    vcpu_time_area_update(next);
    vcpu_runstate_area_update(next);
    if (kernel_tables)
        load_guest_cr3(next->arch.cr3);
}

static void enter_vcpu(struct vcpu *next, bool kernel_tables)
{
    unsigned cpu = this_cpu_id();

    next->arch.perdomain_l1[FIRST_RESERVED_GDT_PAGE] = cpu_gdt_page(cpu, next->domain->arch.word == ABI_32);
    spec_switch_to(next);
    isolation_switch_to(next);
    load_first_cr3(next, kernel_tables);
    lgdt(VCPU_GDT_START(next->id), FIRST_RESERVED_GDT_BYTE + PAGE_SIZE - 1);
    pv_load_ldt(next);
    load_segments(next);
    fpu_ctxt_switch_to(next);
    pv_cpu_switch_to(next);
    *guest_regs() = next->arch.regs;
}

static noreturn_fn void resume(struct vcpu *v)
{
    if (is_idle_vcpu(v))
        stack_reset_jump(cpu_info(), sched_idle_loop);
    /* It may have come while v was elsewhere, or its softirq may have been handled before v's turn. */
    if (unlikely(read_once(v->arch.nmi_pending)))
        raise_softirq(SOFTIRQ_GUEST_NMI);
    stack_reset_jump(cpu_info(), ret_to_guest);
}

static void reschedule(void)
{
    struct vcpu *prev = current, *next = sched_choose();
    bool kernel_tables;

    if (!next)
        return;
    kernel_tables = !is_idle_vcpu(next) && starts_in_kernel_tables(next);
    leave_vcpu(prev);
    debugreg_ctxt_switch(prev, next);
    cpu_info()->current_vcpu = next;
    if (is_idle_vcpu(next))
        write_cr3(virt_to_maddr(hyp_l4).v);
    else
        enter_vcpu(next, kernel_tables);
    if (!is_idle_vcpu(prev) && prev->domain != next->domain) {
        isolation_leave();
        cpumask_clear(&prev->domain->arch.dirty_cpus, this_cpu_id());
    }
    context_saved(prev);
    if (!is_idle_vcpu(next))
        update_areas(next, kernel_tables);
    resume(next);
}

void switch_init(void) { softirq_register(SOFTIRQ_SCHEDULE, reschedule); }

void vcpu_start_on_cpu(struct vcpu *idle)
{
    cpu_info()->current_vcpu = idle;
    resume(idle);
}
