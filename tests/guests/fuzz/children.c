/*
 * Domains that run this same kernel as unprivileged ones, on frames, ports and grants that they share with us and with each other as chance
 * has it. dom0 builds them by control calls from the kernel's ELF, which comes with it as a module, and destroys them at any moment.
 *
 * The module: "PVFUZZ1\0", the number of bytes of a mask and of a kernel (u32 each), the mask, the kernel. Bit i of the mask: the first
 * vCPU makes step i. No mask: it makes all.
 */
#include "fuzz.h"
#include "console.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"
#include <public/errno.h>

#define MAX_CHILDREN 4
#define CHILD_PAGES  1024
#define MAPPED_PAGES (CHILD_PAGES - 64)     /* the last are loose */
#define PAE_LEVELS   3
#define PAGES_IN_L1  (format.levels == 2 ? 1024 : 512)

struct module { char magic[8]; u32 mask_bytes, kernel_bytes; u8 data[]; };

/* What an ELF has that a kernel of ours needs, in its two sizes. */
#ifdef FORMAT_PT64
struct elf_header { u8 ident[16]; u16 type, machine; u32 version; u64 entry, phoff, shoff; u32 flags; u16 ehsize, phentsize, phnum; };
struct elf_segment { u32 type, flags; u64 offset, vaddr, paddr, filesz, memsz, align; };
#else
struct elf_header { u8 ident[16]; u16 type, machine; u32 version, entry, phoff, shoff, flags; u16 ehsize, phentsize, phnum; };
struct elf_segment { u32 type, offset, vaddr, paddr, filesz, memsz, flags, align; };
#endif

#define CHILD_VCPUS 2u
struct child { domid_t domain; bool alive; word report, frame[CHILD_PAGES]; };
static struct child children[MAX_CHILDREN];
static unsigned nr_built;
static struct xen_domctl op;
extern u8 hypercall_page[];

/* ---- The module ---- */

static const struct module *module(void)
{
    const struct module *m = (const void *)(word)start_info->mod_start;

    if (!is_dom0() || start_info->flags & SIF_MOD_START_PFN || start_info->mod_len < sizeof(*m) || memcmp(m->magic, "PVFUZZ1", 8))
        return NULL;
    return m->mask_bytes + m->kernel_bytes + sizeof(*m) <= start_info->mod_len ? m : NULL;
}

bool step_is_wanted(const struct fuzz *z)
{
    static const struct module *m;
    static bool looked;

    if (!looked)
        m = module();
    looked = true;
    if (z->who || !m || !m->mask_bytes)
        return true;
    return z->step / 8 < m->mask_bytes && m->data[z->step / 8] >> (z->step % 8) & 1;
}

bool children_possible(void)
{
    const struct module *m = module();

    return m && m->kernel_bytes;
}

/* ---- Building one ---- */

static long control(struct child *c, u32 cmd)
{
    op.cmd = cmd;
    op.domain = c->domain;
    return fuzz_domctl(&op);
}

#define CONTROL(c, cmd, field, ...) ({                          \
    memset(&op, 0, sizeof(op));                                 \
    op.u.field = (__typeof__(op.u.field)){ __VA_ARGS__ };       \
    control(c, XEN_DOMCTL_##cmd); })

static void *borrow(struct child *c, word pfn)
{
    void *at = window(210);

    if (update_va_mapping_otherdomain(at, pte_make(c->frame[pfn], PTE_DATA), UVMF_INVLPG | UVMF_ALL, c->domain))
        return NULL;
    return at;
}

static void give_back(void) { (void)unmap_at(window(210)); }

/* Its page's contents; false if it is not there any more. */
static bool put(struct child *c, word pfn, const void *from, unsigned n)
{
    void *page = borrow(c, pfn);

    if (page)
        memcpy(page, from, n);
    give_back();
    return page;
}

static word pfn_of(word va) { return (va - VIRT_BASE) >> 12; }

/* Segments begin on a page. The first page behind them, or 0. */
static word put_image(struct child *c, const u8 *elf, word *entry)
{
    const struct elf_header *h = (const void *)elf;
    word end = 0;

    *entry = h->entry;
    for (unsigned i = 0; i < h->phnum; i++) {
        const struct elf_segment *s = (const void *)(elf + h->phoff + i * h->phentsize);

        for (word at = 0; s->type == 1 && at < s->filesz; at += 4096)
            if (!put(c, pfn_of(s->vaddr + at), elf + s->offset + at, (unsigned)min(s->filesz - at, (word)4096)))
                return 0;
        if (s->type == 1)
            end = max(end, pfn_of(s->vaddr + s->memsz) + 1);
    }
    return end;
}

/*
 * Frames behind the image: the p2m list, start_info, what it reports to us, the tables from the root down, a stack; and what a non-PAE
 * domain begins with (put_beginning()).
 */
struct places { word p2m, info, report, tables, stack, beginning, end; };

static struct places places_from(word end)
{
    struct places p = { .p2m = end };

    p.info = p.p2m + CHILD_PAGES * sizeof(word) / 4096;
    p.report = p.info + 1;
    p.tables = p.report + 1;
    p.stack = p.tables + format.levels - 1 + CHILD_PAGES / PAGES_IN_L1;
    p.beginning = p.stack + 1;
    p.end = p.beginning + (format.levels == 2 ? PAE_LEVELS + 1 : 0);
    return p;
}

static bool put_tables(struct child *c, const struct places *p)
{
    static pte_raw table[4096 / sizeof(pte_raw)];
    word first_l1 = p->tables + format.levels - 1;

    for (unsigned level = format.levels; level > 1; level--) {
        word pfn = p->tables + format.levels - level;

        memset(table, 0, sizeof(table));
        for (unsigned i = 0; i < (level == 2 ? CHILD_PAGES / PAGES_IN_L1 : 1); i++)
            table[pte_index((void *)VIRT_BASE, level) + i] = (pte_raw)pte_make(c->frame[pfn + 1 + i], format.level[level].table_flags);
        if (!put(c, pfn, table, sizeof(table)))
            return false;
    }
    for (word pfn = 0; pfn < CHILD_PAGES; pfn++) {
        u64 flags = pfn >= p->tables && pfn < p->stack ? PTE_READ : PTE_DATA;

        table[pfn % PAGES_IN_L1] = pfn < MAPPED_PAGES ? (pte_raw)pte_make(c->frame[pfn], flags) : 0;
        if (pfn % PAGES_IN_L1 == PAGES_IN_L1 - 1 && !put(c, first_l1 + pfn / PAGES_IN_L1, table, sizeof(table)))
            return false;
    }
    return true;
}

/*
 * No control call makes a non-PAE domain: it begins as a PAE one, whose tables (from the root down, an entry each) map a page of
 * instructions that ask for the change.
 */
static bool put_beginning(struct child *c, const struct places *p, word entry)
{
    static const u8 code[] = { 0x31, 0xd2,                  /* xor edx, edx: no progress */
                               0xb8, 55, 0, 0, 0,           /* mov eax, pvisor_op */
                               0xbb, 1, 0, 0, 0,            /* mov ebx, PVISOROP_switch_format */
                               0xb9, 64, 0, 0, 0,           /* mov ecx, the structure: behind the code */
                               0xcd, 0x82, 0xeb, 0xfe };    /* int 82h; jmp $ */
    static const u8 flags[] = { 0, PTE_READ, PTE_TABLE, PTE_P };
    word last = p->beginning + PAE_LEVELS, va = P(pfn_to_virt(last));
    u32 change[] = { 2 /* PVISOR_FORMAT_NONPAE */, (u32)c->frame[p->tables], (u32)entry, (u32)P(pfn_to_virt(p->stack + 1)),
                     (u32)P(pfn_to_virt(p->info)) };
    static u64 page[512];

    for (unsigned level = PAE_LEVELS; level; level--) {
        word pfn = p->beginning + PAE_LEVELS - level;

        memset(page, 0, sizeof(page));
        page[va >> (12 + 9 * (level - 1)) & 511] = (u64)c->frame[pfn + 1] << 12 | flags[level];
        if (!put(c, pfn, page, sizeof(page)))
            return false;
    }
    memset(page, 0, sizeof(page));
    memcpy(page, code, sizeof(code));
    *(u32 *)((u8 *)page + 13) += (u32)va;
    memcpy(page + 8, change, sizeof(change));
    return put(c, last, page, sizeof(page));
}

static bool put_info(struct child *c, const struct places *p, u64 seed)
{
    static GUEST(start_info) info;

    memset(&info, 0, sizeof(info));
    if (CONTROL(c, getdomaininfo, getdomaininfo, 0))
        return false;
    info.nr_pages = CHILD_PAGES;
    info.shared_info = (word)op.u.getdomaininfo.shared_info_frame << 12;
    info.store_mfn = (u32)c->frame[p->report];
    info.pt_base = P(pfn_to_virt(p->tables));
    info.nr_pt_frames = p->stack - p->tables;
    info.mfn_list = P(pfn_to_virt(p->p2m));
    snprintf((char *)info.cmd_line, sizeof(info.cmd_line), "test=random_calls child=1 rounds=4000000000 seed=%u fuzzers=%u", (u32)seed,
             CHILD_VCPUS);
    for (word i = 0; i < CHILD_PAGES * sizeof(word) / 4096; i++)
        if (!put(c, p->p2m + i, c->frame + i * 4096 / sizeof(word), 4096))
            return false;
    return put(c, p->info, &info, sizeof(info));
}

static vcpu_guest_context *context(struct child *c, const struct places *p, word entry)
{
    vcpu_guest_context *x = vcpu_context(1, (void (*)(void))entry);

    x->flags |= VGCF_online;
#ifdef FORMAT_PT64
    x->user_regs.rsi = P(pfn_to_virt(p->info));
    x->user_regs.rsp = P(pfn_to_virt(p->stack + 1));
    x->ctrlreg[3] = (u64)c->frame[p->tables] << 12;
#else
    x->user_regs.esi = P(pfn_to_virt(p->info));
    x->user_regs.esp = P(pfn_to_virt(p->stack + 1));
    x->ctrlreg[3] = XEN_PFN_TO_CR3_32(c->frame[format.levels == 2 ? p->beginning : p->tables]);
#endif
    return x;
}

static bool fill_memory(struct child *c)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(c->frame), .nr_extents = CHILD_PAGES, .domid = c->domain };

    for (word pfn = 0; pfn < CHILD_PAGES; pfn++)
        c->frame[pfn] = pfn;
    return CONTROL(c, max_mem, max_mem, .max_memkb = 4 * CHILD_PAGES + 64) == 0 && memory_op(XENMEM_populate_physmap, &r) == CHILD_PAGES;
}

static bool build(struct child *c, u64 seed)
{
    const struct module *m = module();
    word entry, end = put_image(c, m->data + m->mask_bytes, &entry);
    struct places p = places_from(end);

    c->report = p.report;
    if (!end || p.end >= MAPPED_PAGES || !put_tables(c, &p) || !put_info(c, &p, seed))
        return false;
    if (format.levels == 2) {
        if (!put_beginning(c, &p, entry))
            return false;
        entry = P(pfn_to_virt(p.end - 1));
    }
    return CONTROL(c, hypercall_init, hypercall_init, .gmfn = c->frame[pfn_of(P(hypercall_page))]) == 0 &&
           CONTROL(c, setvcpucontext, vcpucontext, .vcpu = 0, .ctxt = P(context(c, &p, entry))) == 0;
}

/* ---- Their lives ---- */

static bool create(struct child *c)
{
    memset(&op, 0, sizeof(op));
    op.u.createdomain = (struct xen_domctl_createdomain){ .max_vcpus = CHILD_VCPUS, .max_evtchn_port = 127, .max_grant_frames = 4,
                                                          .max_maptrack_frames = 2, .grant_opts = 2 };
    c->domain = DOMID_ANY;
    if (control(c, XEN_DOMCTL_createdomain))
        return false;
    c->domain = op.domain;
    c->alive = true;
    if (format.levels < 4)
        (void)CONTROL(c, set_address_size, address_size, .size = 32);
    return CONTROL(c, max_vcpus, max_vcpus, .max = CHILD_VCPUS) == 0;
}

/* What it has counted is ours, too; what it was is not there any more, whoever has ended it. */
static void end(struct child *c)
{
    const volatile struct count *report = borrow(c, c->report);
    long rc;

    if (report)
        counts_add(report);
    give_back();
    memset(&op, 0, sizeof(op));
    rc = control(c, XEN_DOMCTL_destroydomain);
    CHECK(rc == 0 || rc == -ESRCH);
    c->alive = false;
}

/* Those that random calls know are children, too. */
static void begin(struct child *c, u64 seed)
{
    unsigned place;

    if (!create(c))
        return;
    if (fill_memory(c) && build(c, seed)) {
        (void)CONTROL(c, unpausedomain, max_mem, 0);
        nr_built++;
    }
    if ((place = other_place()) < NR_OTHERS)
        model.other[place] = c->domain;
}

void children_step(struct fuzz *z, u64 seed)
{
    static u64 wanted = ~0ULL;
    struct child *c;

    if (wanted == ~0ULL)
        wanted = children_possible() ? min(number_word("children", 0), (u64)MAX_CHILDREN) : 0;
    if (z->who || !wanted || !once_in(z, 32))
        return;
    c = &children[below(z, (unsigned)wanted)];
    if (!c->alive)
        begin(c, seed + next(z) % 1000000);
    else if (once_in(z, 4))
        end(c);
}

void children_end(void)
{
    for (struct child *c = children; c < children + MAX_CHILDREN; c++)
        if (c->alive)
            end(c);
    if (nr_built)
        printf("CHILDREN %u\n", nr_built);
}

volatile struct count *child_report(void)
{
    static volatile struct count *report;

    if (!report && cmdline_is("child", "1"))
        report = mfn_to_virt(start_info->store_mfn);
    return report;
}
