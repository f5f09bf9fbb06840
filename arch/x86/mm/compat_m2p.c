/*
 * The machine-to-physical table of 32-bit guests: 4-byte entries, read-only in the guests' hole, supervisor pages (their
 * kernels run in ring 1). A copy of the 64-bit one, made when the first 32-bit domain appears. Its level-1 tables are
 * shared by all 32-bit domains: one for each 2 GiB, up to the 16 GiB that a PAE guest's hole has room for. As in the 64-bit
 * one, what describes no RAM is a single page that says so.
 */
#include <asm/mm.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>

#define PAGE_ENTRIES (PAGE_SIZE / sizeof(u32))
#define L1_FRAMES    (512 * PAGE_ENTRIES)      /* frames that one level-1 table's pages describe */
#define NR_L1        COMPAT_M2P_TABLES

bool compat_m2p_ready;
static u64 *l1[NR_L1];
static u64 *no_ram_l1, no_ram;      /* a table of nothing but entries like no_ram */
static spinlock_t build_lock = SPINLOCK_INIT(RANK_VMAP);

/* NULL: m is not RAM, or further up than a guest can see. */
static u32 *slot_of(u64 m)
{
    u64 e = m < NR_L1 * L1_FRAMES ? l1[m / L1_FRAMES][m / PAGE_ENTRIES % 512] : no_ram;

    return e != no_ram ? (u32 *)maddr_to_virt(maddr(e & PTE_MFN_MASK)) + m % PAGE_ENTRIES : NULL;
}

void compat_m2p_set(u64 m, u64 gpfn)
{
    u32 *slot = slot_of(m);

    if (slot)
        write_once(*slot, (u32)gpfn);
}

mfn_t compat_m2p_table(u64 nth) { return read_once(compat_m2p_ready) ? pte_mfn(compat_m2p_l2e((unsigned)nth)) : INVALID_MFN; }

u64 compat_m2p_l2e(unsigned nth)
{
    return nth < NR_L1 ? virt_to_maddr(l1[nth]).v | PTE_P | PTE_A : 0;
}

static bool has_ram(u64 first)
{
    for (u64 m = first; m < first + PAGE_ENTRIES && m < nr_frames; m++)
        if (mfn_valid(mfn(m)))
            return true;
    return false;
}

/* What a failure leaves is used by the next try. */
static int make_no_ram(void)
{
    u64 *page = no_ram_l1 ? NULL : alloc_pages(0);

    if (no_ram_l1)
        return 0;
    if (!page || !(no_ram_l1 = alloc_pages(0))) {
        free_pages(page, 0);
        return -ENOMEM;
    }
    memset(page, (u8)M2P_INVALID, PAGE_SIZE);
    no_ram = virt_to_maddr(page).v | HYP_RO;
    for (unsigned i = 0; i < 512; i++)
        no_ram_l1[i] = no_ram;
    for (unsigned i = 0; i < NR_L1; i++)
        l1[i] = no_ram_l1;
    return 0;
}

static int back_page(u64 m)
{
    u64 **t = &l1[m / L1_FRAMES], *e, *page;

    if (*t == no_ram_l1) {
        page = alloc_pages(0);
        if (!page)
            return -ENOMEM;
        *t = memcpy(page, no_ram_l1, PAGE_SIZE);
    }
    e = &(*t)[m / PAGE_ENTRIES % 512];
    if (*e != no_ram)
        return 0;
    page = alloc_pages(0);
    if (!page)
        return -ENOMEM;
    *e = virt_to_maddr(page).v | HYP_RO;
    return 0;
}

/* Entries may change meanwhile; m2p_set() writes the original first, so what is the same afterwards was current. */
static void copy_entry(u64 m)
{
    u64 v;

    do {
        v = m2p_get(mfn(m));
        compat_m2p_set(m, v);
        smp_mb();
    } while (m2p_get(mfn(m)) != v);
}

static int build(void)
{
    u64 end = min(nr_frames, NR_L1 * L1_FRAMES);

    if (make_no_ram())
        return -ENOMEM;
    for (u64 m = 0; m < end; m += PAGE_ENTRIES)
        if (has_ram(m) && back_page(m))
            return -ENOMEM;
    write_once(compat_m2p_ready, true);
    smp_mb();
    for (u64 m = 0; m < end; m++)
        copy_entry(m);
    printk(LOG_INFO "M2P of 32-bit guests: %lu MiB of RAM covered\n", end >> 8);
    return 0;
}

int compat_m2p_build(void)
{
    int rc = 0;

    spin_lock(&build_lock);
    if (!compat_m2p_ready)
        rc = build();
    spin_unlock(&build_lock);
    return rc ? refuse(rc, "no memory for the M2P of 32-bit guests") : 0;
}
