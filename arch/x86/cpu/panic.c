/* What a bug of ours leaves behind: registers, a symbolic stack, and a machine that stands still. */
#include <asm/atomic.h>
#include <asm/desc.h>
#include <asm/extable.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include "internal.h"

extern const u64 syms_count;
extern const u32 syms_addr[], syms_name[];
extern const char syms_text[];
extern char __text_start[], __text_end[];
void capture_regs(struct cpu_regs *r);

static bool is_code(u64 a)
{
    return a >= (u64)__text_start && a < (u64)__text_end;
}

/* Name of the function that a lies in, and its start; NULL outside our code. */
const char *symbol_lookup(u64 a, u64 *start, u64 *size)
{
    u64 lo = 0, hi = syms_count;
    u32 off = (u32)a;

    if (!is_code(a) || !syms_count)
        return NULL;
    while (hi - lo > 1) {
        u64 mid = (lo + hi) / 2;
        if (syms_addr[mid] <= off)
            lo = mid;
        else
            hi = mid;
    }
    *start = (a & ~0xffffffffUL) | syms_addr[lo];
    *size = lo + 1 < syms_count ? syms_addr[lo + 1] - syms_addr[lo] : 0;
    return syms_text + syms_name[lo];
}

void print_symbol(u64 a)
{
    u64 start, size;
    const char *name = symbol_lookup(a, &start, &size);

    if (name)
        printk(LOG_ERR "   [<%016lx>] %s+%#lx/%#lx\n", a, name, a - start, size);
}

static bool on_this_stack(u64 a)
{
    u64 sp = (u64)__builtin_frame_address(0);
    return a >= sp && a < ((sp & ~(STACK_SIZE - 1)) + STACK_SIZE - sizeof(struct cpu_info)) && !(a & 7);
}

/* Frame pointers lead the way (we are built with them). The first may be a guest's, whatever that is: see hypercalls' entry. */
unsigned stack_trace(u64 bp, u64 *trace, unsigned max)
{
    unsigned n = 0;

    while (n < max && on_this_stack(bp) && on_this_stack(bp + 8)) {
        u64 next = ((u64 *)bp)[0];
        trace[n++] = ((u64 *)bp)[1];
        if (next <= bp)
            break;
        bp = next;
    }
    return n;
}

void show_stack(const struct cpu_regs *r)
{
    u64 trace[32];
    unsigned n = stack_trace(r->rbp, trace, ARRAY_SIZE(trace));

    printk(LOG_ERR "Call trace:\n");
    print_symbol(r->rip);
    for (unsigned i = 0; i < n; i++)
        print_symbol(trace[i]);
}

void show_regs(const struct cpu_regs *r)
{
    printk(LOG_ERR "CPU%u  rip %04x:%016lx  rflags %08lx  vector %#x  error code %#x\n", this_cpu_id(), r->cs, r->rip,
           r->rflags, r->entry_vector, r->error_code);
    printk(LOG_ERR "rax %016lx  rbx %016lx  rcx %016lx\n", r->rax, r->rbx, r->rcx);
    printk(LOG_ERR "rdx %016lx  rsi %016lx  rdi %016lx\n", r->rdx, r->rsi, r->rdi);
    printk(LOG_ERR "rbp %016lx  rsp %016lx  r8  %016lx\n", r->rbp, r->rsp, r->r8);
    printk(LOG_ERR "r9  %016lx  r10 %016lx  r11 %016lx\n", r->r9, r->r10, r->r11);
    printk(LOG_ERR "r12 %016lx  r13 %016lx  r14 %016lx\n", r->r12, r->r13, r->r14);
    printk(LOG_ERR "r15 %016lx  cr0 %016lx  cr2 %016lx\n", r->r15, read_cr0(), read_cr2());
    printk(LOG_ERR "cr3 %016lx  cr4 %016lx  ss %04x\n", read_cr3(), read_cr4(), r->ss);
}

static bool panicking;

static noreturn_fn void panic_end(const struct cpu_regs *r)
{
    bool hardware = r->entry_vector == X86_VEC_MC;

    show_regs(r);
    show_stack(r);
    if (current && !is_idle_vcpu(current))
        printk(LOG_ERR "While serving d%uv%u\n", current->domain->id, current->id);
    nmi_stop_others(true);
    printk(LOG_ERR "The machine has been stopped. %s\n", hardware ? "Its hardware reported an error that cannot be corrected." :
           "This is a bug in pvisor; please report the lines above.");
    machine_crashed();
}

static void panic_begin(void)
{
    irq_disable();
    if (xchg(&panicking, true))
        halt_forever();
    spin_checks_off();
    console_start_sync();
    printk(LOG_ERR "\n");
    printk(LOG_ERR "****************************************\n");
}

void panic(const char *fmt, ...)
{
    struct cpu_regs r = { 0 };
    va_list args;
    char text[160];

    capture_regs(&r);
    panic_begin();
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    printk(LOG_ERR "Panic on CPU %u: %s\n", this_cpu_id(), text);
    r.rbp = (u64)__builtin_frame_address(0);
    panic_end(&r);
}

void boot_failure(const char *fmt, ...)
{
    va_list args;
    char text[256];

    irq_disable();
    console_start_sync();
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    printk(LOG_ERR "\n");
    printk(LOG_ERR "****************************************\n");
    printk(LOG_ERR "Cannot start: %s\n", text);
    printk(LOG_ERR "****************************************\n");
    machine_crashed();
}

/* IA32_MCi_STATUS is MSR 401H + 4 i; its bit 63: the bank has something to say (SDM volume 3, 16.3.2). */
#define MSR_MC_STATUS(bank) (0x401 + 4 * (bank))
#define MC_STATUS_VALID (1UL << 63)

static void show_machine_check_banks(void)
{
    u64 status = 0;

    for (u32 bank = 0; bank < 32; bank++)
        if (!rdmsr_safe(MSR_MC_STATUS(bank), &status) && status & MC_STATUS_VALID)
            printk(LOG_ERR "Machine check: bank %u, status %#lx\n", bank, status);
}

/* Nothing is printed before panic_begin(): a machine check or a double fault may have come while this CPU held the console. */
noreturn_fn void fatal_trap(struct cpu_regs *r, const char *what)
{
    panic_begin();
    if (r->entry_vector == X86_VEC_MC)
        show_machine_check_banks();
    printk(LOG_ERR "Panic on CPU %u: unexpected %s in %s\n", this_cpu_id(), what, r->cs & 3 ? "a guest" : "the hypervisor");
    panic_end(r);
}

/* --- Exception table --- */

struct ex_entry { s32 insn, fixup; };
extern const struct ex_entry __ex_table_start[], __ex_table_end[];

u64 extable_find(u64 rip)
{
    for (const struct ex_entry *e = __ex_table_start; e < __ex_table_end; e++)
        if ((u64)&e->insn + (s64)e->insn == rip)
            return (u64)&e->fixup + (s64)e->fixup;
    return 0;
}

int rdmsr_safe(u32 msr, u64 *v)
{
    u32 lo, hi;

    __asm__ goto("1: rdmsr\n" EX_TABLE("1b", "%l[fault]") : "=a"(lo), "=d"(hi) : "c"(msr) :: fault);
    *v = lo | (u64)hi << 32;
    return 0;
fault:
    return -EFAULT;
}

int wrmsr_safe(u32 msr, u64 v)
{
    __asm__ goto("1: wrmsr\n" EX_TABLE("1b", "%l[fault]") :: "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory" : fault);
    return 0;
fault:
    return -EFAULT;
}
