/*
 * The start of a kernel that is not the one that the toolstack built the domain for. Kernel, ramdisk, frame list, start_info, page tables
 * and stack go to where a builder puts them (common/image/layout.c), through windows; then the M2P learns the new numbers, and the new
 * tables become the domain's: where the format stays, by a few instructions that both mappings have (trampoline in entry.asm), else by
 * the hypervisor (public/pvisor.h). We end there, with our own tables.
 */
#include <public/pvisor.h>
#include <pvisor/hypercall_page.h>
#include "pv.h"

/* What entry.asm has for the page that both mappings share. */
extern const char trampoline[], trampoline_end[];
struct handover { word_t ops, nr_ops, entry, stack, start_info; };
noreturn_fn void jump(word_t trampoline, const struct handover *h);

static const struct kernel_image *k;
static const struct image_shape *shape;
static struct image_layout l;
static word_t next_table, root;
static u64 initrd_bytes;

static word_t pfn_of(u64 va) { return (word_t)((va - l.v_start) >> PAGE_SHIFT); }

static noreturn_fn void too_little_memory(u64 pages)
{
    fail("the domain has too little memory for this kernel (memory=): %lu KiB, of which the loader has %lu; needed are %llu",
         nr_pages << 2, (nr_pages - nr_free + used) << 2, (unsigned long long)pages << 2);
}

/* ---- Contents ---- */

static void put_in_frame(word_t pfn, unsigned at, const void *src, unsigned n)
{
    char *page;

    if (pfn >= nr_free - used)
        too_little_memory(pfn);
    page = map_frame(W_DATA, new_mfn(pfn), PTE_DATA);
    if (src)
        memcpy(page + at, src, n);
    else
        memset(page + at, 0, n);
}

static void put_at(word_t pfn, u64 at, const void *src, u64 len)
{
    const char *from = src;

    for (u64 n; len; at += n, len -= n, from = from ? from + n : NULL) {
        n = min(len, PAGE_SIZE - (at & ~PAGE_MASK));
        put_in_frame(pfn + (word_t)(at >> PAGE_SHIFT), (unsigned)(at & ~PAGE_MASK), from, (unsigned)n);
    }
}

int put(void *ctx, u64 va, const void *src, u64 len)
{
    (void)ctx;
    put_at(0, va - l.v_start, src, len);
    return 0;
}

void start_put_initrd(u64 offset, const void *src, u64 len)
{
    put_at((word_t)l.initrd_pfn, offset, src, len);
}

/* The toolstack gave us frames as to any guest with PAE, and a kernel without it has no entry for one above 4 GiB. */
static word_t usable_mfn(word_t pfn)
{
    word_t m = new_mfn(pfn);

    if (shape->entry_bytes == 4 && m >> (32 - PAGE_SHIFT))
        fail("frame %#lx of this domain lies above the 4 GiB that a kernel without PAE can map: "
             "start it while memory below is free (docs/32-bit.md)", m);
    return m;
}

static void write_p2m(void)
{
    for (word_t pfn = 0; pfn < nr_pages; pfn++) {
        word_t m = usable_mfn(pfn);

        put_at((word_t)l.p2m_pfn, (u64)pfn * shape->word_bytes, &m, shape->word_bytes);
    }
}

static void write_start_info(const char *cmdline)
{
    static NATIVE(start_info) si;

    si = *start_info;
    memset(si.magic, 0, sizeof(si.magic));
    snprintf(si.magic, sizeof(si.magic), "xen-3.0-x86_%s", k->format == PT64 ? "64" : k->format == PT32P ? "32p" : "32");
    si.pt_base = (word_t)l.v_pt;
    si.nr_pt_frames = (word_t)l.nr_pt;
    si.mfn_list = (word_t)l.v_p2m;
    si.first_p2m_pfn = k->has_p2m_base ? (word_t)l.p2m_pfn : 0;
    si.nr_p2m_frames = (word_t)l.p2m_frames;
    si.flags &= ~(u32)SIF_MOD_START_PFN;
    si.flags |= initrd_bytes && k->unmapped_initrd ? SIF_MOD_START_PFN : 0;
    si.mod_start = !initrd_bytes ? 0 : k->unmapped_initrd ? (word_t)l.initrd_pfn : (word_t)l.v_initrd;
    si.mod_len = (word_t)initrd_bytes;
    if (strlcpy(si.cmd_line, cmdline, sizeof(si.cmd_line)) >= sizeof(si.cmd_line))
        say_to_log("pvisor loader: the kernel's command line is cut to %u characters\n", MAX_GUEST_CMDLINE - 1);
    put(NULL, l.v_start_info, &si, sizeof(si));
}

/* ---- Page tables ---- */

static u64 load_entry(const char *table, unsigned i)
{
    return shape->entry_bytes == 8 ? ((const u64 *)table)[i] : ((const u32 *)table)[i];
}

static void store_entry(char *table, unsigned i, u64 e)
{
    if (shape->entry_bytes == 8)
        ((u64 *)table)[i] = e;
    else
        ((u32 *)table)[i] = (u32)e;
}

static word_t new_table(void)
{
    word_t m = new_mfn(next_table++);

    memset(map_frame(W_DATA, m, PTE_DATA), 0, PAGE_SIZE);
    return m;
}

static unsigned index_of(u64 va, unsigned level)
{
    return (unsigned)(va >> image_shift(shape, level)) & ((1u << shape->index_bits) - 1);
}

/* The table of the level for va, made if it is missing. */
static char *table_for(u64 va, unsigned level)
{
    char *table = map_frame(W_LEVEL(shape->levels), root, PTE_DATA);

    for (unsigned at = shape->levels; at > level; at--) {
        unsigned i = index_of(va & (shape->word_bytes == 4 ? 0xffffffff : ~0ULL), at);
        u64 e = load_entry(table, i);

        if (!e) {
            e = (u64)new_table() << PAGE_SHIFT | (shape->levels == 3 && at == 3 ? 1 : PTE_TABLE);
            store_entry(table, i, e);
        }
        table = map_frame(W_LEVEL(at - 1), (word_t)((e & 0xffffffffff000ULL) >> PAGE_SHIFT), PTE_DATA);
    }
    return table;
}

static void map_page(u64 va, word_t pfn, unsigned flags)
{
    store_entry(table_for(va, 1), index_of(va, 1), (u64)new_mfn(pfn) << PAGE_SHIFT | flags);
}

/* A 64-bit kernel runs in ring 3, so its pages are user's. */
static void write_tables(void)
{
    unsigned user = k->is64 ? 4 : 0;
    word_t first = pfn_of(l.v_pt), p2m_pages = (word_t)DIV_ROUND_UP((u64)nr_pages * shape->word_bytes, PAGE_SIZE);

    next_table = first;
    root = new_table();
    for (u64 va = l.v_start; va < l.v_end; va += PAGE_SIZE) {
        word_t pfn = pfn_of(va);

        map_page(va, pfn, (pfn >= first && pfn < first + l.nr_pt ? PTE_READ : PTE_DATA) | user);
    }
    if (l.extra_l2)
        table_for(3ULL << 30, 2);
    if (!l.p2m_frames)
        return;
    next_table = (word_t)l.p2m_pfn + p2m_pages;
    for (word_t i = 0; i < p2m_pages; i++)
        map_page(l.v_p2m + (u64)i * PAGE_SIZE, (word_t)l.p2m_pfn + i, PTE_DATA | user);
}

/* ---- The end ---- */

static void mmuext(unsigned cmd, word_t m, const char *what)
{
    NATIVE(mmuext_op) op = { .cmd = cmd, .arg1 = m };

    if (hypercall(__HYPERVISOR_mmuext_op, (word_t)&op, 1, 0, DOMID_SELF))
        fail("%s; the hypervisor's log (xl dmesg) says why", what);
}

static word_t own_root(void) { return mfn_of((void *)(word_t)start_info->pt_base); }

/* The other format's tables are plain data until the hypervisor has taken the last of ours. */
static void switch_format(void)
{
    struct pvisor_switch_format s = {
        .format = PVISOR_FORMAT_NONPAE, .root_mfn = (u32)root, .eip = (u32)k->virt_entry, .esp = (u32)l.v_stack + PAGE_SIZE,
        .esi = (u32)l.v_start_info,
    };
    long rc;

    mmuext(MMUEXT_UNPIN_TABLE, own_root(), "its own page tables cannot be unpinned");
    rc = hypercall(__HYPERVISOR_pvisor_op, PVISOROP_switch_format, (word_t)&s, 0, 0);
    fail(rc == -ENOSYS ? "this hypervisor cannot run kernels without PAE"
                       : "the hypervisor refused the change to tables without PAE; its log (xl dmesg) says why");
}

/* The page behind the boot stack is padding, which no kernel may count on: there both mappings have the last instructions. */
static void switch_tables(void)
{
    word_t at = (word_t)l.v_stack + PAGE_SIZE, data = at + ROUND_UP((word_t)(trampoline_end - trampoline), 16);
    NATIVE(mmuext_op) ops[] = { { .cmd = MMUEXT_NEW_BASEPTR, .arg1 = root }, { .cmd = MMUEXT_UNPIN_TABLE, .arg1 = own_root() } };
    struct handover h = { data, ARRAY_SIZE(ops), (word_t)k->virt_entry, at, (word_t)l.v_start_info };

    put(NULL, at, trampoline, (u64)(trampoline_end - trampoline));
    put(NULL, data, ops, sizeof(ops));
    unmap_windows();
    mmuext(k->format == PT64 ? MMUEXT_PIN_L4_TABLE : MMUEXT_PIN_L3_TABLE, root, "the kernel's page tables are refused");
    map_at(at, new_mfn(pfn_of(at)));
    jump(at, &h);
}

static void check_features(void)
{
    struct image_error err = { "" };

    if (image_check_features(k, IMAGE_OFFERED_DOMU, &err))
        fail("%s", err.text);
}

static void check_addresses(void)
{
    u64 own_start = BASE, own_end = BASE + ((u64)used << PAGE_SHIFT);

    if (l.v_end <= l.v_start)
        fail("the kernel's first mapping, from %#llx on, ends beyond the address space", (unsigned long long)l.v_start);
    if (k->format == OWN_FORMAT && l.v_start < own_end && own_start < l.v_end)
        fail("the kernel wants to be at %#llx to %#llx, the loader is at %#llx to %#llx", (unsigned long long)l.v_start,
             (unsigned long long)l.v_end, (unsigned long long)own_start, (unsigned long long)own_end);
}

void start_prepare(const struct kernel_image *image, u64 initrd_size)
{
    k = image;
    shape = &image_shapes[k->format];
    initrd_bytes = initrd_size;
    check_features();
    image_lay_out(k, nr_pages, initrd_size, 3, &l);
    check_addresses();
    if (l.first_free_pfn > nr_pages - used)
        too_little_memory(l.first_free_pfn);
    trade_places(0, (word_t)start_info->store_mfn, pfn_of(l.v_start_info) + 1);
    trade_places(1, (word_t)start_info->console_mfn, pfn_of(l.v_start_info) + 2);
    if (image_load(k, put, NULL))
        fail("the kernel does not fit where it wants to be");
    if (k->has_hypercall_page) {
        static char page[PAGE_SIZE];

        fill_hypercall_page(!k->is64, page);
        put(NULL, k->hypercall_page, page, sizeof(page));
    }
}

void start_kernel(const char *cmdline)
{
    write_p2m();
    write_start_info(cmdline);
    write_tables();
    renumber_m2p();
    forget_events();
    if (k->format == OWN_FORMAT)
        switch_tables();
    unmap_windows();
    switch_format();
    __builtin_unreachable();
}
