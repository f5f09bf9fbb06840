/* A call that gives way: what its guest is to make again. The way in and out is arch/x86/entry. */
#include <asm/percpu.h>
#include <stdarg.h>
#include <pvisor/cpumask.h>
#include <pvisor/hypercall.h>

/* asked: the value that says "again" may also be one that a call returns for the guest (a register, on IRET). */
struct restart { bool asked; unsigned nr; u64 args[6]; };
STATIC_PERCPU(struct restart, restart);

/* From an emulated instruction too: then the next hypercall is looked at for nothing. */
void hypercall_wants_look(void) { cpu_info()->call_exit |= CALL_LOOK; }

s64 hypercall_restart(unsigned nr_args, ...)
{
    struct restart *r = &this_cpu(restart);
    va_list ap;

    va_start(ap, nr_args);
    r->asked = true;
    hypercall_wants_look();
    r->nr = nr_args;
    for (unsigned i = 0; i < nr_args; i++)
        r->args[i] = va_arg(ap, u64);
    va_end(ap);
    return -ERESTART_HYPERCALL;
}

bool hypercall_restart_asked(void) { return this_cpu(restart).asked; }

unsigned hypercall_restart_args(u64 args[6])
{
    struct restart *r = &this_cpu(restart);

    r->asked = false;
    for (unsigned i = 0; i < r->nr; i++)
        args[i] = r->args[i];
    return r->nr;
}
