/* Which frames devices reach: asm/dma.h says. */
#include <asm/dma.h>
#include <asm/frame_ref.h>
#include <asm/mm.h>

static bool is_ours(u64 m)
{
    u16 owner = frame_ref_owner(read_once(frame_refs[m]));

    return owner == DOMID_XEN || owner == DOMID_IO;
}

static bool open_run(u64 first, u64 end) { return first == end || !iommu_set(first, end, true); }

static bool open_all(void)
{
    u64 first = 0;

    for (u64 m = 0; m < nr_frames; m++) {
        if (!is_ours(m))
            continue;
        if (!open_run(first, m))
            return false;
        first = m + 1;
    }
    return open_run(first, nr_frames);
}

void dma_start(void)
{
    if (iommu_wanted() && !open_all())
        boot_failure("no memory for the IOMMU's tables");
    iommu_start();
}

void dma_frame_given(u64 frame)
{
    if (!iommu_reaches(frame) && iommu_set(frame, frame + 1, true))
        printk(LOG_ERR "No memory for the IOMMU's tables: devices cannot reach frame %#lx\n", frame);
}
