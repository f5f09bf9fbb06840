#include "traps.h"
#include "console.h"
#include "events.h"
#include "hypercall.h"

extern u8 trap_stubs[], event_entry[], failsafe_entry[], sysenter_entry[], catch_resume[];
#ifdef FORMAT_PT64
extern u8 syscall_entry[];
#endif

#define STUB_BYTES 16
#define CATCH_FLAGS (EFLAGS_TF | EFLAGS_DF | EFLAGS_NT | EFLAGS_AC)

static struct fault faults[MAX_TEST_VCPUS];
static struct catch *catch_tops[MAX_TEST_VCPUS];
bool (*trap_hook)(struct trap_regs *regs);
GUEST(trap_info) trap_table[257];
static u8 user_trap_stack[16384] __attribute__((aligned(4096)));

struct fault *fault_here(void) { return &faults[this_vcpu()]; }

void catch_begin(struct catch *c)
{
    struct catch **top = &catch_tops[this_vcpu()];

    last_fault.hit = false;
    c->outer = *top;
    *top = c;
}

void catch_end(struct catch *c)
{
    catch_tops[this_vcpu()] = c->outer;
}

unsigned catch_depth(void)
{
    unsigned n = 0;

    for (const struct catch *c = catch_tops[this_vcpu()]; c; c = c->outer)
        n++;
    return n;
}

void print_regs(const struct trap_regs *r)
{
    printf("  vector %lu error %lx ip %lx cs %lx flags %lx sp %lx ss %lx cr2 %lx\n", r->vector, r->error, r->ip,
           r->cs, r->flags, r->sp, r->ss, (word)vcpu_info(this_vcpu())->arch.cr2);
    printf("  ax %lx bx %lx cx %lx dx %lx si %lx di %lx bp %lx\n", r->ax, r->bx, r->cx, r->dx, r->si, r->di,
           r->bp);
}

/* Makes the frame return into catch_save()'s caller, in the kernel. */
static void resume_at_catch(struct trap_regs *regs)
{
    struct catch *taken = catch_tops[this_vcpu()];

    catch_tops[this_vcpu()] = taken->outer;
    last_fault = (struct fault){ .hit = true, .vector = (unsigned)regs->vector, .error = regs->error,
                                 .cr2 = vcpu_info(this_vcpu())->arch.cr2, .regs = *regs };
    regs->ip = (word)catch_resume;
    regs->dx = (word)taken;
    regs->cs = KERNEL_CS;
    regs->flags &= ~CATCH_FLAGS;
    if (regs->vector == VECTOR_FAILSAFE)
        regs->flags |= EFLAGS_IF; /* its frame may be anything */
#ifdef FORMAT_PT64
    regs->ss = KERNEL_SS;
    regs->sp = taken->saved[6];
#else
    regs->ds = regs->es = KERNEL_SS;
    regs->fs = regs->gs = 0;
#endif
}

void trap(struct trap_regs *regs)
{
    if (regs->vector == VECTOR_EVENT) {
        upcall(this_vcpu());
        return;
    }
    if (trap_hook && trap_hook(regs))
        return;
    if (!catch_tops[this_vcpu()]) {
        print_regs(regs);
        panic("trap outside of any test");
    }
    resume_at_catch(regs);
}

static void register_callback(unsigned type, const void *entry)
{
    GUEST(callback_register) reg = { .type = (u16)type, .flags = CALLBACKF_mask_events, .eip = (word)entry };

#ifndef FORMAT_PT64
    reg.cs = KERNEL_CS;
#endif
    if (callback_op(CALLBACKOP_register, &reg))
        panic("callback %u refused", type);
}

void sysenter_callback(void) { register_callback(CALLBACKTYPE_sysenter, sysenter_entry); }
void syscall32_callback(void) { register_callback(CALLBACKTYPE_syscall32, sysenter_entry); }

void user_stack_restore(void)
{
    if (stack_switch(KERNEL_SS ? KERNEL_SS : FLAT_RING3_SS64, (word)(user_trap_stack + sizeof(user_trap_stack))))
        panic("kernel stack refused");
}

void traps_init(void)
{
    for (unsigned v = 0; v < 256; v++) {
        trap_table[v] = (GUEST(trap_info)){ .vector = (u8)v, .flags = TI_IF, .cs = KERNEL_CS };
        trap_table[v].address = (word)(trap_stubs + v * STUB_BYTES);
#ifdef FORMAT_PT64
        trap_table[v].cs = FLAT_RING3_CS64;
#endif
    }
    trap_table[VECTOR_BP].flags |= 3;
    trap_table[VECTOR_OF].flags |= 3;
    trap_table[0x80].flags |= 3;
    if (set_trap_table(trap_table))
        panic("trap table refused");
    register_callback(CALLBACKTYPE_event, event_entry);
    register_callback(CALLBACKTYPE_failsafe, failsafe_entry);
#ifdef FORMAT_PT64
    register_callback(CALLBACKTYPE_syscall, syscall_entry);
#endif
    user_stack_restore();
}

noreturn_fn void shutdown(unsigned reason)
{
    struct sched_shutdown arg = { .reason = reason };

    for (;;)
        sched_op(SCHEDOP_shutdown, &arg);
}

noreturn_fn void panic(const char *f, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, f);
    printf("PVTEST panic: ");
    vprintf(f, args);
    printf("\n");
    __builtin_va_end(args);
    shutdown(SHUTDOWN_crash);
}

struct fault read_fault(const volatile void *p)
{
    return FAULT_IN(*(const volatile word *)p);
}

struct fault write_fault(volatile void *p, word value)
{
    return FAULT_IN(*(volatile word *)p = value);
}
