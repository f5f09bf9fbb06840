#include "preempt.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"

static GUEST(mmuext_op) op;

/* The upcall that interrupts the call: what is made again afterwards is another. */
static void let_go(unsigned vcpu)
{
    write_once(vcpu_info(vcpu)->evtchn_upcall_pending, 0);
    op.cmd = MMUEXT_TLB_FLUSH_LOCAL;
}

long mmuext_abandoned(unsigned cmd, word arg1)
{
    GUEST(vcpu_info) *info = vcpu_info(this_vcpu());
    u8 masked = info->evtchn_upcall_mask;
    long rc;

    op = (GUEST(mmuext_op)){ .cmd = cmd, .arg1 = arg1 };
    upcall = let_go;
    barrier();
    write_once(info->evtchn_upcall_mask, 0);
    write_once(info->evtchn_upcall_pending, 1);
    rc = mmuext_op(&op, 1, NULL, DOMID_SELF);
    write_once(info->evtchn_upcall_mask, masked);
    upcall = scan_two_level;
    return rc;
}

void *half_made_table(const u64 *entries, unsigned first, unsigned nr)
{
    void *table = page_alloc();

    for (unsigned i = 0; i < nr; i++)
        ((pte_raw *)table)[first + i] = (pte_raw)entries[i];
    for (unsigned tries = 0; tries < 100; tries++) {
        make_readonly(table);
        if (mmuext_abandoned(MMUEXT_PIN_L2_TABLE, virt_to_mfn(table)))
            break;
        /* Neither a table, nor anything else. */
        if (unpin(table) && map_writable(table))
            return table;
    }
    return NULL;
}
