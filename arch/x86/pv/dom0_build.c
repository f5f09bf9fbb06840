/*
 * Building dom0 inside the hypervisor: the same start of day that libxenguest gives a domU, for each page-table format.
 * (Linux Documentation/x86 and arch/x86/xen/xen-head.S.) What goes where: common/image/layout.c.
 */
#include <asm/atomic.h>
#include <asm/boot.h>
#include <asm/fpu.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/version.h>
#include <pvisor/hypercall.h>
#include <pvisor/image.h>
#include <pvisor/hwdom.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include <pvisor/vga.h>

struct builder {
    struct domain *d;
    const struct pt_format *fmt;
    struct kernel_image img;
    u64 nr_pages;
    struct extent { u64 pfn, mfn; } *extents, *last_used;      /* dom0's frames, by pfn; one more ends the list */
    u64 nr_extents;
    u64 next_table_pfn;                /* page tables are taken from here on */
    struct image_layout l;
    u64 initrd_size;
};

#define MAX_EXTENTS 65536u             /* a free list's blocks, when memory is in many pieces */
#define TABLES_ROOM (32UL << 20)       /* in a kernel's first mapping: start info, page tables, stack */
#define PAGES(bytes) DIV_ROUND_UP((u64)(bytes), PAGE_SIZE)

/* Whoever asks mostly asks for the next. */
static mfn_t frame_of(struct builder *b, u64 pfn)
{
    struct extent *e = b->last_used;

    BUG_ON(pfn >= b->nr_pages);
    if (pfn < e->pfn)
        e = b->extents;
    while (pfn >= e[1].pfn)
        e++;
    b->last_used = e;
    return mfn(e->mfn + (pfn - e->pfn));
}

static void *pfn_to_page(struct builder *b, u64 p) { return mfn_to_virt(frame_of(b, p)); }

static void *va_to_ptr(struct builder *b, u64 va)
{
    u64 off = va - b->l.v_start;
    return (char *)pfn_to_page(b, off >> PAGE_SHIFT) + (off & ~PAGE_MASK);
}

/* --- The kernel file --- */

/*
 * The decompressors use SSE, the stack protector's slot at %fs:0x28, and the red zone below %rsp, which an interrupt
 * would overwrite.
 */
static int unwrap(const struct image_wrap *w, void *out, void *scratch, struct image_error *err)
{
    static u64 tls[8];
    u64 flags = irq_save(), fs = rdmsr(MSR_FS_BASE);
    int rc;

    __asm__ volatile("fninit");
    tls[5] = rdtsc();
    wrmsr(MSR_FS_BASE, (u64)tls);
    rc = image_unwrap(w, out, w->unpacked_size, scratch, w->scratch_size, err);
    wrmsr(MSR_FS_BASE, fs);
    irq_restore(flags);
    return rc;
}

static unsigned order_of(u64 bytes) { return bytes <= PAGE_SIZE ? 0 : ilog2(bytes - 1) + 1 - PAGE_SHIFT; }

static void refuse_kernel(const struct image_error *err)
{
    boot_failure("dom0's kernel cannot be started: %s", err->text);
}

/* The ELF in memory of ours; *order says how much to give back (0 frames if it is in the module itself). */
static const void *unpack_kernel(const struct boot_module *k, u64 *size, void **buffer, unsigned *order)
{
    struct image_error err = { "" };
    struct image_wrap w;
    const void *file = maddr_to_virt(k->start);
    void *scratch;
    u64 t = now_ns();

    *buffer = NULL;
    if (image_identify(file, k->size, &w, &err))
        refuse_kernel(&err);
    if (w.packing == PACKED_NOT) {
        *size = w.payload_size;
        return w.payload;
    }
    *size = w.unpacked_size;
    *order = order_of(w.unpacked_size);
    *buffer = alloc_pages(*order);
    scratch = w.scratch_size ? alloc_pages(order_of(w.scratch_size)) : NULL;
    if (!*buffer || (w.scratch_size && !scratch))
        boot_failure("not enough memory to unpack dom0's kernel: %lu KiB and %lu KiB are needed in one piece each",
              w.unpacked_size >> 10, w.scratch_size >> 10);
    if (unwrap(&w, *buffer, scratch, &err))
        refuse_kernel(&err);
    if (scratch)
        free_pages(scratch, order_of(w.scratch_size));
    printk(LOG_INFO "dom0's kernel: %s payload unpacked, %lu to %lu KiB, in %lu ms\n", image_packing_name(w.packing),
           w.payload_size >> 10, w.unpacked_size >> 10, (now_ns() - t) / 1000000);
    return *buffer;
}

/* --- Memory --- */

/* A kernel that has its frame list mapped behind itself gets no more memory than the list has room to describe. */
static u64 describable_pages(const struct builder *b)
{
    u64 top = b->fmt->word_bits == 32 ? b->fmt->hv_start : b->img.virt_base >> 63 ? 0 : HYP_VIRT_START << 16 >> 16;
    u64 others = b->initrd_size + TABLES_ROOM, room = top - ROUND_UP(b->img.virt_kend, PAGE_SIZE);

    return b->img.has_p2m_base ? ~0UL : (room - min(others, room)) / (b->fmt->word_bits / 8);
}

static u64 decide_pages(const struct builder *b)
{
    unsigned bits = (unsigned)b->d->arch.physaddr_bits;
    u64 pages = dom0_pages(heap_free_below(bits)), most = describable_pages(b);

    if (pages > most)
        printk(LOG_WARNING "dom0 gets %lu MiB: its kernel has no room for a longer list of its frames\n", most >> 8);
    return min(pages, most);
}

/* Extents that follow each other are one. */
static void add_extent(struct builder *b, u64 pfn, u64 m, u64 nr)
{
    struct extent *last = b->nr_extents ? &b->extents[b->nr_extents - 1] : NULL;

    if (!last || last->mfn + (pfn - last->pfn) != m) {
        if (b->nr_extents == MAX_EXTENTS)
            boot_failure("dom0's memory is in more than %u pieces", MAX_EXTENTS);
        b->extents[b->nr_extents++] = (struct extent){ pfn, m };
    }
    b->extents[b->nr_extents] = (struct extent){ pfn + nr, 0 };
    for (u64 i = 0; i < nr; i++)
        m2p_set(mfn(m + i), pfn + i);
}

/* Not zeroed: nobody's but the machine's own memory until now, and there may be much of it. zero_start() zeroes what is mapped. */
static void allocate_memory(struct builder *b)
{
    unsigned order = 9, bits = (unsigned)b->d->arch.physaddr_bits;

    b->d->max_pages = max(b->nr_pages, dom0_most_pages(heap_total_frames()));
    b->last_used = b->extents = xzalloc_bytes((MAX_EXTENTS + 1) * sizeof(*b->extents));
    if (!b->extents)
        boot_failure("no memory to list dom0's frames");
    for (u64 got = 0; got < b->nr_pages;) {
        mfn_t m;
        while (1UL << order > b->nr_pages - got)
            order--;
        m = domain_alloc_frames(b->d, order, (bits < 64 ? MEMF_BITS(bits) : 0) | MEMF_NO_ZERO);
        if (!mfn_eq(m, INVALID_MFN)) {
            add_extent(b, got, m.v, 1UL << order);
            got += 1UL << order;
        } else if (!order--) {
            boot_failure("dom0 needs %lu KiB more, %lu KiB are free%s", (b->nr_pages - got) << 2, heap_free_frames() << 2,
                  bits < 64 ? " (its format needs low memory)" : "");
        }
    }
}

/* But for the ramdisk's pages, most of them, which copy_initrd() writes whole. */
static void zero_start(struct builder *b)
{
    for (u64 pfn = 0; pfn < b->l.first_free_pfn; pfn++)
        if (pfn - b->l.initrd_pfn >= PAGES(b->initrd_size))
            memset(pfn_to_page(b, pfn), 0, PAGE_SIZE);
}

/* --- Layout --- */

static void lay_out(struct builder *b)
{
    image_lay_out(&b->img, b->nr_pages, b->initrd_size, 1, &b->l);
    b->next_table_pfn = (b->l.v_pt - b->l.v_start) >> PAGE_SHIFT;
    if (b->l.first_free_pfn > b->nr_pages)
        boot_failure("dom0 has %lu KiB; its kernel and initrd need at least %lu KiB (dom0_mem=)", b->nr_pages << 2,
                     b->l.first_free_pfn << 2);
}

/* --- Page tables --- */

static void write_pte(const struct pt_format *f, void *table, unsigned i, u64 e)
{
    if (f->pte_bytes == 8)
        ((u64 *)table)[i] = e;
    else
        ((u32 *)table)[i] = (u32)e;
}

/* The table one level below entry i of table, made if it is missing. */
static void *descend(struct builder *b, void *table, unsigned level, unsigned i)
{
    u64 e = pt_load(b->fmt, table, i);

    if (!(e & PTE_P)) {
        mfn_t m = frame_of(b, b->next_table_pfn++);
        e = pte_make(m, PTE_P | PTE_RW | PTE_US | PTE_A | (level == 3 && b->fmt->levels == 3 ? 0 : PTE_D)) &
            ~b->fmt->level[level].denied;
        write_pte(b->fmt, table, i, e);
    }
    return mfn_to_virt(pte_mfn(e));
}

static void map_page(struct builder *b, void *root, u64 va, u64 pfn, bool writable)
{
    void *table = root;
    u64 user = b->fmt->word_bits == 64 ? PTE_US : 0;   /* 32-bit kernels run in ring 1: their users must not reach this */

    for (unsigned level = b->fmt->levels; level > 1; level--)
        table = descend(b, table, level, pt_index(b->fmt, level, va));
    write_pte(b->fmt, table, pt_index(b->fmt, 1, va),
              pte_make(frame_of(b, pfn), PTE_P | PTE_A | PTE_D | user | (writable ? PTE_RW : 0)));
}

/* Frames that became tables must not be mapped writable. */
static void make_tables_readonly(struct builder *b, void *root, u64 va, u64 pfn, u64 nr)
{
    for (u64 i = 0; i < nr; i++)
        map_page(b, root, va + i * PAGE_SIZE, pfn + i, false);
}

static mfn_t build_tables(struct builder *b)
{
    u64 first_pt = b->next_table_pfn, root_pfn = b->next_table_pfn++, p2m_pages = PAGES(b->nr_pages * (b->fmt->word_bits / 8));
    void *root = pfn_to_page(b, root_pfn);

    for (u64 va = b->l.v_start; va < b->l.v_end; va += PAGE_SIZE)
        map_page(b, root, va, (va - b->l.v_start) >> PAGE_SHIFT, true);
    if (b->l.extra_l2)
        descend(b, root, 3, 3);
    BUG_ON(b->next_table_pfn - first_pt > b->l.nr_pt);
    make_tables_readonly(b, root, b->l.v_pt, first_pt, b->next_table_pfn - first_pt);
    b->l.nr_pt = b->next_table_pfn - first_pt;
    if (b->img.has_p2m_base) {
        b->next_table_pfn = b->l.p2m_pfn + p2m_pages;
        for (u64 i = 0; i < p2m_pages; i++)
            map_page(b, root, b->l.v_p2m + i * PAGE_SIZE, b->l.p2m_pfn + i, true);
        BUG_ON(b->next_table_pfn > b->l.p2m_pfn + b->l.p2m_frames);
    }
    return frame_of(b, root_pfn);
}

/* --- Contents --- */

static int put_kernel(void *ctx, u64 vaddr, const void *src, u64 len)
{
    struct builder *b = ctx;

    while (len) {
        u64 n = min(len, PAGE_SIZE - (vaddr & ~PAGE_MASK));
        if (src)
            memcpy(va_to_ptr(b, vaddr), src, n);
        else
            memset(va_to_ptr(b, vaddr), 0, n);
        vaddr += n;
        src = src ? (const char *)src + n : NULL;
        len -= n;
    }
    return 0;
}

static void copy_initrd(struct builder *b, const struct boot_module *m)
{
    const char *src = maddr_to_virt(m->start);

    for (u64 off = 0; off < m->size; off += PAGE_SIZE) {
        char *page = pfn_to_page(b, b->l.initrd_pfn + (off >> PAGE_SHIFT));
        u64 n = min(PAGE_SIZE, m->size - off);

        memcpy(page, src + off, n);
        memset(page + n, 0, PAGE_SIZE - n);
    }
}

static void write_p2m(struct builder *b)
{
    u64 bytes = b->fmt->word_bits / 8, each = PAGE_SIZE / bytes;

    for (u64 first = 0; first < b->nr_pages; first += each) {
        char *page = pfn_to_page(b, b->l.p2m_pfn + first / each);

        for (u64 i = first; i < min(first + each, b->nr_pages); i++) {
            u64 m = frame_of(b, i).v;
            memcpy(page + (i - first) * bytes, &m, bytes);
        }
    }
}

static void write_start_info(struct builder *b, const char *cmdline)
{
    static struct start_info si;
    enum abi_word w = b->d->arch.word;
    char *page = va_to_ptr(b, b->l.v_start_info);
    struct start_info_dom0_console *con;

    memset(&si, 0, sizeof(si));
    snprintf(si.magic, sizeof(si.magic), "xen-3.0-x86_%s", b->fmt->id == PT64 ? "64" : b->fmt->id == PT32P ? "32p" : "32");
    si.nr_pages = b->nr_pages;
    si.shared_info = b->d->shared_info_mfn.v << PAGE_SHIFT;
    si.flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    si.pt_base = b->l.v_pt;
    si.nr_pt_frames = b->l.nr_pt;
    si.mfn_list = b->l.v_p2m;
    if (b->img.has_p2m_base) {
        si.first_p2m_pfn = b->l.p2m_pfn;
        si.nr_p2m_frames = b->l.p2m_frames;
    }
    if (b->initrd_size) {
        si.mod_len = b->initrd_size;
        si.mod_start = b->img.unmapped_initrd ? b->l.initrd_pfn : b->l.v_initrd;
        if (b->img.unmapped_initrd)
            si.flags |= SIF_MOD_START_PFN;
    }
    strlcpy(si.cmd_line, cmdline, sizeof(si.cmd_line));
    BUG_ON(!abi_encode(w, &start_info_desc, page, &si));
    con = (struct start_info_dom0_console *)(page + abi_offset(w, start_info, console_mfn));
    con->info_off = (u32)ROUND_UP(abi_sizeof(w, start_info), 16);
    con->info_size = vga_describe((void *)(page + con->info_off));
}

/* --- Start --- */

static void pin_root(struct domain *d, mfn_t root)
{
    int rc;

    pt_lock(d);
    while ((rc = pt_pin(d, root, d->arch.fmt->levels)) == -ERESTART_HYPERCALL)
        ;
    if (!rc)
        rc = pt_get_table(d, root, d->arch.fmt->levels);
    pt_unlock(d);
    if (rc)
        boot_failure("dom0's first page tables are refused (error %d)", -rc);
    d->vcpu[0]->arch.root_kernel = root;
}

static void set_registers(struct builder *b)
{
    struct vcpu *v = b->d->vcpu[0];
    struct cpu_regs *r = &v->arch.regs;
    bool narrow = b->d->arch.word == ABI_32;

    memset(r, 0, sizeof(*r));
    r->rip = b->img.virt_entry;
    r->rsp = b->l.v_stack + PAGE_SIZE;
    r->rsi = b->l.v_start_info;
    r->rflags = RFLAGS_IF | RFLAGS_FIXED;
    r->cs = narrow ? FLAT_RING1_CS : FLAT_RING3_CS64;
    r->ss = narrow ? FLAT_RING1_SS : FLAT_RING3_SS64;
    r->ds = r->es = narrow ? FLAT_RING1_DS : 0;
    v->arch.kernel_ss = r->ss;
    v->arch.kernel_sp = r->rsp;
    if (v->arch.monitor_l4) {
        pt_lock(v->domain);
        mirror_set_root(v);
        pt_unlock(v->domain);
    }
    pv_make_cr3(v);
    v->is_initialised = true;
    vcpu_start_ticking(v);
}

/* A kernel starts with events masked. */
static void mask_events(struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu(d, v)
        vcpu_set_upcall_mask(v, true);
}

static void pin(struct vcpu *v)
{
    cpumask_t own = cpumask_of(v->id);

    if (vcpu_set_hard_affinity(v, &own))
        printk(LOG_WARNING "dom0's vCPU %u cannot be pinned\n", v->id);
}

static struct domain *create_dom0(const struct kernel_image *img)
{
    struct domain_config cfg = {
        .max_vcpus = dom0_vcpus(cpumask_weight(&cpu_online_map)),
        .max_evtchn_port = ~0u, .max_grant_frames = -1, .max_maptrack_frames = -1, .grant_opts = 2,
    };
    int err;
    struct domain *d = domain_create(0, &cfg, true, &err);

    if (!d)
        boot_failure("cannot create dom0: error %d", -err);
    if (img->format != PT64 && pv_set_format(d, img->format))
        boot_failure("cannot make dom0 a %s domain", pt_formats[img->format].name);
    for (u32 i = 0; i < cfg.max_vcpus; i++)
        if (!vcpu_create(d, i))
            boot_failure("cannot create dom0's vCPU %u", i);
        else if (dom0_is_pinned() && cpumask_test(&cpu_online_map, i))
            pin(d->vcpu[i]);
    mask_events(d);
    hardware_domain_permissions(d);
    return d;
}

static void describe(const struct builder *b)
{
    printk(LOG_INFO "dom0: %s kernel %s %s, %lu MiB\n", b->fmt->name, b->img.notes.guest_os, b->img.notes.guest_version,
           b->nr_pages >> 8);
    printk(LOG_INFO " kernel %#lx-%#lx, entry %#lx\n", b->img.virt_kstart, b->img.virt_kend, b->img.virt_entry);
    printk(LOG_INFO " start info %#lx, tables %#lx (%lu), p2m %#lx, initrd pfn %#lx (%lu KiB)\n", b->l.v_start_info, b->l.v_pt,
           b->l.nr_pt, b->l.v_p2m, b->l.initrd_pfn, b->initrd_size >> 10);
}

void dom0_build(const struct boot_module *kernel, const struct boot_module *initrd)
{
    static struct builder b;
    struct image_error err = { "" };
    unsigned order = 0;
    void *buffer;
    u64 size;
    const void *elf = unpack_kernel(kernel, &size, &buffer, &order);

    if (image_parse(elf, size, &b.img, &err))
        refuse_kernel(&err);
    b.fmt = &pt_formats[b.img.format];
    b.d = create_dom0(&b.img);
    b.initrd_size = initrd ? initrd->size : 0;
    b.nr_pages = decide_pages(&b);
    allocate_memory(&b);
    lay_out(&b);
    zero_start(&b);
    if (image_load(&b.img, put_kernel, &b))
        boot_failure("dom0's kernel does not fit where it wants to be");
    if (b.img.has_hypercall_page)
        arch_init_hypercall_page(b.d, va_to_ptr(&b, b.img.hypercall_page & PAGE_MASK));
    if (initrd)
        copy_initrd(&b, initrd);
    write_p2m(&b);
    mfn_t root = build_tables(&b);
    write_start_info(&b, kernel->cmdline);
    pin_root(b.d, root);
    set_registers(&b);
    describe(&b);
    free_pages(buffer, order);
    xfree(b.extents);
    boot_release(kernel->start, kernel->size);
    if (initrd)
        boot_release(initrd->start, initrd->size);
    domain_wallclock_update(b.d);
    atomic_and(&b.d->vcpu[0]->pause_flags, ~VPF_DOWN);
}
