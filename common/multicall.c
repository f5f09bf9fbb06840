/*
 * A list of hypercalls in one. Each entry is read when its turn comes, and its result is written before the
 * next is read. A call within that has to give way leaves its progress in its entry, and the multicall is
 * made again from that entry on.
 */
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/preempt.h>
#include <pvisor/printk.h>
#include <pvisor/trace.h>

static always_inline int write_word(enum abi_word w, gva_t at, u64 v)
{
    return w == ABI_64 ? copy_to_guest_as(w, at, &v, 8) : copy_to_guest_as(w, at, &v, 4);
}

/* Of a 32-bit guest whose call has wide arguments: puts the halves in args together. */
static void join_halves(const struct hypercall_desc *h, u64 args[6])
{
    unsigned from = 0;
    u64 joined[6] = { 0 };

    for (unsigned i = 0; i < h->nr_args && from < 6; i++) {
        joined[i] = args[from++];
        if (h->wide & 1 << i && from < 6)
            joined[i] |= args[from++] << 32;
    }
    for (unsigned i = 0; i < 6; i++)
        args[i] = joined[i];
}

static s64 call_wide(u64 op, struct multicall_entry e)
{
    u64 *a = e.args;

    join_halves(&hypercall_table[op], a);
    return hypercall_handlers[op](a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* An inner call under the rules of an outer one. The entry stays in registers: nobody takes its address. */
static always_inline s64 call(enum abi_word w, const struct multicall_entry *e, bool traced)
{
    const u64 *a = e->args;
    u64 op = e->op & (NR_HYPERCALLS - 1);     /* as asm/nospec.h has it */

    if (unlikely(e->op >= nr_hypercalls))
        return -ENOSYS;
    if (traced)
        trace_hypercall(TRC_PV_HYPERCALL_SUBCALL, (u32)op, (const u64[3]){ a[0], a[1], a[2] });
    if (unlikely(w == ABI_32 && hypercall_table[op].wide))
        return call_wide(op, *e);
    return hypercall_handlers[op](a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The entry gets the new arguments; its result stays the guest's. */
static int write_restart(enum abi_word w, gva_t entry)
{
    u64 args[6];
    unsigned n = hypercall_restart_args(args), word = abi_word_bytes(w);
    gva_t at = gva_add(entry, abi_offset(w, multicall_entry, args));

    for (unsigned i = 0; i < n; i++)
        if (write_word(w, gva_add(at, i * word), args[i]))
            return -EFAULT;
    return 0;
}

static always_inline s64 run(enum abi_word w, gva_t list, u64 nr, bool traced)
{
    u64 size = abi_sizeof(w, multicall_entry);
    u32 mark = fetch_mark();

    for (u64 i = 0; i < nr; i++, list = gva_add(list, size)) {
        struct multicall_entry e;
        s64 rc;

        if (i && unlikely(call_gives_way()))
            return hypercall_restart(2, list.v, nr - i);
        fetch_forget(mark);
        if (unlikely(guest_read_abi_as(w, multicall_entry, &e, list)))
            return refuse(-EFAULT, "entry %lu of %lu at %#lx cannot be read", i, nr, list.v);
        rc = call(w, &e, traced);
        if (unlikely(rc < 0)) {
            if (rc == -ERESTART_HYPERCALL && hypercall_restart_asked())
                return write_restart(w, list) ? -EFAULT : hypercall_restart(2, list.v, nr - i);
            hypercall_log_failure(e.op, rc);
        }
        /* The guest is elsewhere now, and this value belongs into a register of that place. */
        if (unlikely(e.op == __HYPERVISOR_iret))
            return rc;
        if (unlikely(write_word(w, gva_add(list, abi_offset(w, multicall_entry, result)), (u64)rc)))
            return refuse(-EFAULT, "the result of entry %lu of %lu at %#lx cannot be written", i, nr, list.v);
    }
    return 0;
}

static always_inline s64 multicall(gva_t list, u32 nr, bool traced)
{
    struct vcpu *v = current;
    s64 rc;

    if (v->in_multicall)
        return refuse(-EINVAL, "a multicall within a multicall");
    v->in_multicall = true;
    /* A copy of the loop for each word size, since most of it is about that. */
    rc = likely(domain_word(v->domain) == ABI_64) ? run(ABI_64, list, nr, traced) : run(ABI_32, list, nr, traced);
    v->in_multicall = false;
    return rc;
}

s64 do_multicall(u64 list, u64 nr, u64, u64, u64, u64) { return multicall(gva(list), (u32)nr, false); }
s64 do_traced_multicall(u64 list, u64 nr, u64, u64, u64, u64) { return multicall(gva(list), (u32)nr, true); }
