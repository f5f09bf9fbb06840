/*
 * The trace buffers and struct t_info, which tells dom0 of them: frames of ours that dom0 may map (as DOMID_XEN's), the buffers for writing
 * too, since their reader moves an index there. They are made once and stay, for dom0 may have them mapped for ever.
 */
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/frame.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/trace.h>

/* What has been decided and made so far. */
static struct {
    struct t_info *info;        /* NULL: nothing */
    u32 guest_shared **pages;   /* of all CPUs, one after the other */
    unsigned info_order;
    u32 cpus, size, made;       /* size: pages of one CPU's; made: pages of all */
    bool done;
} b;

/* Also those that may come later. */
static u32 cpus_possible(void) { return max(nr_cpus, min((unsigned)acpi_info.nr_cpus, (unsigned)NR_CPUS)); }

static u32 frame_number(u32 n) { return (u32)virt_to_mfn((void *)(u64)b.pages[n]).v; }

static void forget(void)
{
    while (b.made)
        free_frames(mfn_kept(frame_number(--b.made)), 0);
    xfree(b.pages);
    if (b.info)
        free_pages(b.info, b.info_order);
    memset(&b, 0, sizeof(b));
}

/* Offsets in struct t_info are numbers of 16 bits, in words of 32. */
static s64 plan(u32 size)
{
    u32 cpus = cpus_possible(), head = DIV_ROUND_UP(sizeof(struct t_info) + cpus * sizeof(u16), sizeof(u32));
    u32 most = (UINT16_MAX - head) / cpus, bytes;

    if (!size || size > most)
        return refuse(-EINVAL, "trace buffers of %u pages, expected 1 to %u", size, most);
    bytes = (head + cpus * size) * (u32)sizeof(u32);
    while (PAGE_SIZE << b.info_order < bytes)
        b.info_order++;
    b.info = alloc_pages(b.info_order);
    b.pages = xzalloc_bytes(cpus * size * sizeof(*b.pages));
    if (!b.info || !b.pages) {
        forget();
        return refuse(-ENOMEM, "no memory for the list of trace buffers");
    }
    b.cpus = cpus;
    b.size = size;
    b.info->tbuf_size = (u16)size;
    for (u32 cpu = 0; cpu < cpus; cpu++)
        b.info->mfn_offset[cpu] = (u16)(head + cpu * size);
    return 0;
}

static void publish(void)
{
    u32 *list = (u32 *)b.info + b.info->mfn_offset[0];

    for (u32 n = 0; n < b.made; n++) {
        list[n] = frame_number(n);
        show_frames(mfn_kept(list[n]), 0, true);
    }
    show_frames(virt_to_mfn(b.info), b.info_order, false);
    for (u32 cpu = 0; cpu < b.cpus; cpu++)
        trace_give_pages(cpu, b.pages + cpu * b.size, b.size);
    b.done = true;
    printk(LOG_INFO "Trace buffers: %u pages for each of %u CPUs\n", b.size, b.cpus);
}

/* Given up half-way it is gone on with by whoever calls next, with the first one's size. */
s64 trace_set_size(u32 pages)
{
    s64 rc;

    if (b.done)
        return decline(-EINVAL, "there are trace buffers, of %u pages; they stay", b.size);
    rc = b.info ? 0 : plan(pages);
    while (!rc && b.made < b.cpus * b.size) {
        void *page = alloc_pages(0);

        if (!page) {
            u32 size = b.size, cpus = b.cpus;

            forget();
            return refuse(-ENOMEM, "no memory for %u pages of trace buffer on each of %u CPUs", size, cpus);
        }
        b.pages[b.made++] = page;
        if (preempt_needed())
            rc = -ERESTART_HYPERCALL;
    }
    if (!rc)
        publish();
    return rc;
}

mfn_t trace_info(u32 *bytes)
{
    *bytes = b.done ? (u32)(PAGE_SIZE << b.info_order) : 0;
    return b.done ? virt_to_mfn(b.info) : INVALID_MFN;
}
