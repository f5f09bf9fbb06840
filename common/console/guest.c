/* The console as guests have it: dom0 gets its input, all write to it. */
#include <asm/percpu.h>
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>
#include "internal.h"

#define INPUT_SIZE 4096u      /* dom0 may be slow to fetch what a program types */

/* Input for dom0, under input_lock. */
static spinlock_t input_lock = SPINLOCK_INIT(RANK_CONSOLE);
static char input[INPUT_SIZE];
static u32 input_in, input_out;

void console_input_to_dom0(char c)
{
    u64 flags = spin_lock_irqsave(&input_lock);

    if (input_in - input_out < INPUT_SIZE)
        input[input_in++ % INPUT_SIZE] = c;
    spin_unlock_irqrestore(&input_lock, flags);
    send_dom0_virq(VIRQ_CONSOLE);
}

static s64 console_read(gva_t buffer, u64 count)
{
    u64 done = 0;

    while (done < count) {
        char chunk[64];
        u64 flags = spin_lock_irqsave(&input_lock);
        u32 n = min(min((u64)sizeof(chunk), count - done), (u64)(input_in - input_out));

        for (u32 i = 0; i < n; i++)
            chunk[i] = input[input_out++ % INPUT_SIZE];
        spin_unlock_irqrestore(&input_lock, flags);
        if (!n)
            break;
        if (copy_to_guest(gva_add(buffer, done), chunk, n))
            return refuse(-EFAULT, "console input buffer %#lx+%lu is not writable", buffer.v, count);
        done += n;
    }
    return done;
}

/* --- Guests' output ------------------------------------------------------------------------------------- */

static void flush_guest_line(struct domain *d)
{
    if (d->console.len)
        guest_text_log(d, d->console.text, d->console.len);
    d->console.len = 0;
}

static void write_guest_line(struct domain *d, const char *s, size_t n)
{
    struct guest_console *line = &d->console;
    u64 flags = spin_lock_irqsave(&line->lock);

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n' || line->len == sizeof(line->text))
            flush_guest_line(d);
        if (s[i] != '\n')
            line->text[line->len++] = s[i];
    }
    spin_unlock_irqrestore(&line->lock, flags);
}

int console_domain_init(struct domain *d)
{
    spin_lock_init(&d->console.lock, RANK_IRQ);
    return 0;
}

void console_domain_end(struct domain *d)
{
    flush_guest_line(d);
    guest_log_end(d);
}

/* Drops what could move the terminal's cursor about or switch its modes; a domU's text must not fake our log. */
static size_t keep_printable(char *s, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if ((u8)s[i] >= ' ' ? s[i] != 0x7f : s[i] == '\n' || s[i] == '\t')
            s[kept++] = s[i];
    return kept;
}

static s64 restart_write(gva_t buffer, u64 count, u64 done)
{
    return hypercall_restart(3, (u64)CONSOLEIO_write, count - done, buffer.v + done);
}

/* dom0's text is never dropped: its vCPU comes again, and takes its events meanwhile, until the line has room. */
static s64 console_write_guest(gva_t buffer, u64 count)
{
    struct domain *d = current->domain;
    char chunk[128];

    if (!d->is_hardware && !guest_console_allowed())
        return -EPERM;
    for (u64 done = 0; done < count; ) {
        size_t n = min((u64)sizeof(chunk), count - done);

        if (done && preempt_needed())
            return restart_write(buffer, count, done);
        if (d->is_hardware && console_is_crowded()) {
            vcpu_yield();
            return restart_write(buffer, count, done);
        }
        if (copy_from_guest(chunk, gva_add(buffer, done), n))
            return refuse(-EFAULT, "console text %#lx+%lu is not readable", buffer.v, count);
        done += n;
        if (d->is_hardware)
            console_write(chunk, n);
        else
            write_guest_line(d, chunk, keep_printable(chunk, n));
    }
    return 0;
}

/* HYPERVISOR_console_io(command, count, buffer). Count is a signed int in the interface. */
s64 do_console_io(u64 cmd, u64 count, u64 buffer, u64, u64, u64)
{
    if ((s32)count < 0)
        return refuse(-EINVAL, "count %d is negative", (s32)count);
    count = (u32)count;
    switch ((u32)cmd) {
    case CONSOLEIO_write:
        return console_write_guest(gva(buffer), count);
    case CONSOLEIO_read:
        if (!current->domain->is_hardware)
            return refuse(-EPERM, "only dom0 reads the console");
        return console_read(gva(buffer), count);
    default:
        return refuse(-ENOSYS, "unknown command %u", (u32)cmd);
    }
}
