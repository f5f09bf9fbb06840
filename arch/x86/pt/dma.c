/* Which frames devices reach: asm/dma.h says. */
#include <asm/dma.h>
#include <asm/frame_ref.h>
#include <asm/mm.h>

bool dma_strict;
u16 dma_domain;         /* dom0's number, but in tests */

static bool is_dom0s_writable(u64 m)
{
    u32 w = read_once(frame_types[m]);

    return frame_ref_owner(read_once(frame_refs[m])) == dma_domain && fw_type(w) == FT_WRITABLE && w & FW_VALID;
}

static bool is_ours(u64 m)
{
    u16 owner = frame_ref_owner(read_once(frame_refs[m]));

    return owner == DOMID_XEN || owner == DOMID_IO;
}

bool dma_may_reach(u64 frame) { return iommu_strict() ? is_dom0s_writable(frame) : !is_ours(frame); }

static bool open_run(u64 first, u64 end) { return first == end || !iommu_set(first, end, true); }

static bool open_all(void)
{
    u64 first = 0;

    for (u64 m = 0; m < nr_frames; m++) {
        if (dma_may_reach(m))
            continue;
        if (!open_run(first, m))
            return false;
        first = m + 1;
    }
    return open_run(first, nr_frames);
}

void dma_start(void)
{
    if (!iommu_wanted())
        return;
    if (open_all())
        iommu_start();
    else
        printk(LOG_WARNING "IOMMU: no memory for its tables: it is not used, devices reach all memory\n");
    dma_strict = iommu_on && iommu_strict();
}

static void set(u64 first, u64 end, bool may)
{
    if (!iommu_set(first, end, may))
        return;
    if (!may)
        panic("no memory to keep devices from frame %#lx", first);
    printk(LOG_ERR "No memory for the IOMMU's tables: devices cannot reach all frames from %#lx on\n", first);
}

void dma_frames_given(const struct domain *d, u64 first, u64 end)
{
    if (!dma_strict || d->id == dma_domain)
        set(first, end, true);
}

void dma_frame_changed(u64 frame)
{
    bool may = dma_may_reach(frame);

    if (iommu_reaches(frame) != may)
        set(frame, frame + 1, may);
}
