/* What a bug of ours leaves behind: registers, a symbolic stack, and a machine that stands still. */
#include <asm/atomic.h>
#include <asm/mcheck.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/symbols.h>
#include <asm/x86.h>
#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include "internal.h"

void capture_regs(struct cpu_regs *r);

void print_symbol(u64 a)
{
    u64 start, size;
    const char *name = symbol_lookup(a, &start, &size);

    if (name)
        printk(LOG_ERR "   [<%016lx>] %s+%#lx/%#lx\n", a, name, a - start, size);
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
    console_take_back();
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
