/* Makes the frame table and the machine-to-physical table when the machine starts. */
#include <asm/mm.h>
#include <asm/pt.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>

static u64 ram_end_mfn;

mfn_t max_ram_mfn(void) { return mfn(ram_end_mfn - 1); }

static __init bool ram_in(u64 first, u64 nr)
{
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *r = &host_e820[i];
        if (r->type == E820_RAM && r->start >> PAGE_SHIFT < first + nr &&
            (r->start + r->size + PAGE_SIZE - 1) >> PAGE_SHIFT > first)
            return true;
    }
    return false;
}

/*
 * The M2P is backed in 2 MiB pieces, which is how the toolstack maps it (XENMEM_machphys_mfn_list). All their frames are
 * DOMID_XEN's, with a reference that stays, and of a type that no writable mapping can have. What the last piece has more
 * than the M2P needs becomes pages of the frame table; guests do not see those.
 */
#define M2P_CHUNK_MFNS ((2UL << 20) / 8)
static struct { u64 chunk, next, end; } m2p_tail __initdata;

static __init u64 table_page(void)
{
    if (m2p_tail.next == m2p_tail.end)
        return boot_alloc(1).v;
    m2p_tail.next += PAGE_SIZE;
    return m2p_tail.next - PAGE_SIZE;
}

/* Backs one table of elem-byte entries, a page at a time; pages that describe no RAM share hole. */
static __init void back_table(u64 va, u64 elem, u64 hole, u64 flags, u64 fill)
{
    u64 per_page = PAGE_SIZE / elem;

    for (u64 m = 0; m < nr_frames; m += per_page) {
        u64 page = va + m * elem, pa = hole;
        if (ram_in(m, per_page)) {
            pa = table_page();
            u64 *p = maddr_to_virt(maddr(pa));
            for (unsigned i = 0; i < 512; i++)
                p[i] = fill;
        }
        BUG_ON(hyp_map(page, maddr(pa), 1, pa == hole ? HYP_RO : flags) < 0);
    }
}

/* The last piece is there before the frame table, which takes part of it. */
static __init void alloc_m2p_tail(void)
{
    u64 used = ROUND_UP(nr_frames % M2P_CHUNK_MFNS * 8, PAGE_SIZE);

    if (!used || !ram_in(nr_frames - nr_frames % M2P_CHUNK_MFNS, M2P_CHUNK_MFNS))
        return;
    m2p_tail.chunk = boot_alloc_aligned(512, 2UL << 20).v;
    m2p_tail.next = m2p_tail.chunk + used;
    m2p_tail.end = m2p_tail.chunk + (2UL << 20);
}

static __init void back_m2p_chunk(u64 m)
{
    bool last = nr_frames - m < M2P_CHUNK_MFNS;
    u64 nr = last ? nr_frames - m : M2P_CHUNK_MFNS, pa = last ? m2p_tail.chunk : boot_alloc_aligned(512, 2UL << 20).v;
    u64 *p = maddr_to_virt(maddr(pa));

    for (u64 i = 0; i < nr; i++)
        p[i] = M2P_INVALID;
    BUG_ON(hyp_map(M2P_RO_START + m * 8, maddr(pa), DIV_ROUND_UP(nr * 8, PAGE_SIZE), HYP_RW | PTE_US) < 0);
    for (u64 f = pa >> PAGE_SHIFT; f < (pa >> PAGE_SHIFT) + 512; f++) {
        frame_refs[f] = (u64)DOMID_XEN << FR_OWNER_SHIFT | 1;
        frame_types[f] = FW_TYPE(FT_SEGDESC) | FW_VALID | 1;
    }
}

/*
 * What describes no RAM is one page that says so, and that nobody can write. A kernel that looks through its page tables reads the
 * entry of each frame: of 65536 device registers' when it starts, and each was a page fault and a fixup in the kernel.
 */
static __init void back_m2p_holes(void)
{
    u64 pa = boot_alloc(1).v;

    memset(maddr_to_virt(maddr(pa)), (u8)M2P_INVALID, PAGE_SIZE);
    hyp_map_holes(M2P_RO_START, maddr(pa), HYP_RO | PTE_US);
}

static __init void back_m2p(void)
{
    for (u64 m = 0; m < nr_frames; m += M2P_CHUNK_MFNS)
        if (ram_in(m, M2P_CHUNK_MFNS))
            back_m2p_chunk(m);
    back_m2p_holes();
    /* What the frame table left of the tail, on a machine so small that it has no use for it. */
    if (m2p_tail.next < m2p_tail.end)
        memset(maddr_to_virt(maddr(m2p_tail.next)), 0, m2p_tail.end - m2p_tail.next);
}

mfn_t m2p_chunk(u64 i)
{
    u64 e = i * M2P_CHUNK_MFNS < nr_frames ? hyp_lookup(M2P_RO_START + (i << 21)) : 0;

    return e & PTE_RW ? pte_mfn(e) : INVALID_MFN;
}

/* Owns, for those who may map them, the frames that we show to the toolstack. Never goes away. */
struct domain xen_domain = { .id = DOMID_XEN, .refs = 1 };

__init void frame_table_init(void)
{
    u64 io_word = (u64)DOMID_IO << FR_OWNER_SHIFT, hole_ref = boot_alloc(1).v, hole_type = boot_alloc(1).v;
    u64 *p = maddr_to_virt(maddr(hole_ref));

    for (unsigned i = 0; i < host_e820_nr; i++)
        if (host_e820[i].type == E820_RAM)
            ram_end_mfn = max(ram_end_mfn, (host_e820[i].start + host_e820[i].size) >> PAGE_SHIFT);
    nr_frames = ROUND_UP(ram_end_mfn, 1024);
    alloc_m2p_tail();
    for (unsigned i = 0; i < 512; i++)
        p[i] = io_word;
    memset(maddr_to_virt(maddr(hole_type)), 0, PAGE_SIZE);
    back_table((u64)FRAME_REF_START, 8, hole_ref, HYP_RW, io_word);
    back_table((u64)FRAME_TYPE_START, 4, hole_type, HYP_RW, 0);
    back_m2p();
}
