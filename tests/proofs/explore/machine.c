/* The machine: see explore.h. Everything of the hypervisor that the core wants and that is not the core. */
#define strtoull libc_strtoull  /* pvisor/lib.h has its own */
#include <stdlib.h>
#undef strtoull

#include <asm/atomic.h>
#include <asm/desc.h>
#include <asm/dirty.h>
#include <asm/dma.h>
#include <asm/isolation.h>
#include <asm/pv.h>
#include <asm/smp.h>
#include <asm/spec.h>
#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/rangeset.h>
#include <pvisor/softirq.h>
#include "explore.h"

const struct size *size;
const struct pt_format *fmt;
bool mirrored;
unsigned nr_all, nr_blocks, slot_index[SLOTS_MAX];
struct guests guests __attribute__((aligned(64)));
int explore_short_ways = 1;
u64 decisions;
unsigned nr_decisions;

static char memory[MFN_END * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
u64 fake_direct_map, fake_refs[MFN_END] __attribute__((aligned(64))), fake_m2p[MFN_END] __attribute__((aligned(64)));
u32 fake_types[MFN_END] __attribute__((aligned(64)));
const char zero_page[PAGE_SIZE];

/* Nobody copies a domain's memory: unit test_store.c has that. */
u32 nr_dirty_logs;
void frame_log_dirty(mfn_t m) { (void)m; }
void dirty_log_mark(struct domain *d, mfn_t m) { (void)d, (void)m; }
bool dirty_log_has(const struct domain *d, mfn_t m) { (void)d, (void)m; return true; }
void log_dirty_leaf(struct domain *d, u64 e) { (void)d, (void)e; }
bool may_write_unlogged(const struct domain *d, mfn_t m, u64 e) { (void)d, (void)m, (void)e; return true; }
void log_first_write(struct domain *d, mfn_t m) { (void)d, (void)m; }

/* No device has an IOMMU here. */
bool iommu_on, dma_exact;
void dma_frames_given(const struct domain *d, u64 first, u64 end, bool shared) { (void)d, (void)first, (void)end, (void)shared; }
void dma_frame_changed(u64 frame) { (void)frame; }
u64 dma_frame_freed(const struct domain *d, u64 frame) { return (void)d, (void)frame, 0; }
void iommu_flush(u64 spaces) { (void)spaces; }
bool dma_is_exact(unsigned space) { (void)space; return false; }
bool dma_is_right(unsigned space, u64 frame) { (void)space, (void)frame; return true; }
bool iommu_reaches(unsigned space, u64 frame) { (void)space, (void)frame; return false; }

/* --- What TLBs and copies of roots know ------------------------------------------------------------------------------------------ */

/*
 * By domain and frame: a CPU of the domain's may have a translation by which it writes the frame, or one that leads through it as a
 * table. A CPU may come to know at any moment what complete tables say then, and forgets it by a flush alone. What it knew before a step
 * is no part of a state. But a type stays until the next takes its place, and that begins with a flush if anything is noted as stale: so
 * then every frame with the type of a table may be known as one, and every writable one to be writable. That nothing else is known is
 * looked at after each step.
 */
static struct known { bool writable[FRAMES_MAX], table[FRAMES_MAX]; } known[NR_DOMAINS];
static bool walkable[MFN_END];          /* frames of mirrors */
static struct { bool complete, forgotten; u64 slot[SLOTS_MAX]; } root_was[FRAMES_MAX];
static const char *wrong;

static bool is_stale(const struct domain *d) { return d->arch.stale != d->arch.flushed; }
static enum frame_type type_of(unsigned n) { return fw_type(fake_types[FRAME_FIRST + n]); }
static bool is_table_type(unsigned n) { return type_of(n) >= FT_L1 && type_of(n) <= FT_L4; }

static void learn(struct known *k, const struct domain *d)
{
    for (unsigned n = 0; n < nr_all; n++) {
        if (!complete_level(n) || !owns(d, n))
            continue;
        k->table[n] = true;
        for (unsigned s = 0; complete_level(n) == 1 && s < size->slots; s++) {
            u64 e = entry_at(n, slot_index[s]);

            if ((e & (PTE_P | PTE_RW)) == (PTE_P | PTE_RW) && is_frame(pte_mfn(e)))
                k->writable[pte_mfn(e).v - FRAME_FIRST] = true;
        }
    }
}

static void learn_mirrors(const struct domain *d)
{
    for (unsigned n = 0; mirror_numbers(d) && n < nr_all; n++) {
        mfn_t block = mirror_of(d, frame_mfn(n));

        for (unsigned i = 0; !mfn_eq(block, INVALID_MFN) && i < BLOCK; i++)
            walkable[block.v + i] = true;
    }
}

static void flushed(struct domain *d)
{
    struct known *k = &known[d->id - 1];

    memset(k, 0, sizeof(*k));
    learn(k, d);
    if (!mirrored)
        return;
    memset(walkable, 0, sizeof(walkable));
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        learn_mirrors(&guests.d[i]);
}

/* Those that were given up wait for a flush: any of them may be walked. */
static void learn_dead_mirrors(const struct domain *d)
{
    for (u32 link = d->arch.mirror_dead; link; link = frame_notes[link >> 2])
        for (unsigned i = 0; i < BLOCK; i++)
            walkable[(link >> 2) + i] = true;
}

void step_begins(void)
{
    wrong = NULL;
    nr_decisions = 0;
    memset(known, 0, sizeof(known));
    memset(walkable, 0, sizeof(walkable));
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        const struct domain *d = &guests.d[i];

        for (unsigned n = 0; is_stale(d) && n < nr_all; n++) {
            known[i].writable[n] = owns(d, n) && type_of(n) == FT_WRITABLE;
            known[i].table[n] = owns(d, n) && is_table_type(n);
        }
        learn(&known[i], d);
        learn_mirrors(d);
        learn_dead_mirrors(d);
    }
    for (unsigned n = 0; n < nr_all; n++) {
        root_was[n].complete = complete_level(n) == 4;
        root_was[n].forgotten = false;
        for (unsigned s = 0; s < size->slots; s++)
            root_was[n].slot[s] = entry_at(n, slot_index[s]);
    }
}

static void look_at_known(const struct domain *d)
{
    struct known *k = &known[d->id - 1], now = { 0 };

    learn(&now, d);
    for (unsigned n = 0; n < nr_all; n++) {
        if (k->writable[n] && type_of(n) != FT_WRITABLE)
            wrong = "a frame has another type, and a CPU may still write it, by what its TLB has";
        if (k->table[n] && !is_table_type(n))
            wrong = "a frame has another type, and a CPU may still walk it as a table, by what its TLB has";
        if (!(is_stale(d) && owns(d, n)) && ((k->writable[n] && !now.writable[n]) || (k->table[n] && !now.table[n])))
            wrong = "a translation to a frame, or through it, may be stale, and nothing notes it";
    }
}

static void look_at_copies(void)
{
    for (unsigned n = 0; n < nr_all; n++) {
        bool changed = complete_level(n) != 4;

        for (unsigned s = 0; s < size->slots; s++)
            changed |= !!((entry_at(n, slot_index[s]) ^ root_was[n].slot[s]) & ~(PTE_A | PTE_D));
        if (root_was[n].complete && changed && !root_was[n].forgotten)
            wrong = "a root has changed, and CPUs keep their copies of it";
    }
}

void isolation_forget(const struct domain *, mfn_t root) { root_was[root.v - FRAME_FIRST].forgotten = true; }
bool isolation_any_linear(struct domain *d) { d->arch.names_roots = true; return true; }

/* --- This CPU, the log, locks ------------------------------------------------------------------------------------------------------ */

static struct cpu_info info;
struct cpu_info *cpu_info(void) { return &info; }
static struct cpu_info *const infos[NR_CPUS] = { [0 ... NR_CPUS - 1] = &info };
struct cpu_info *cpu_info_of(unsigned cpu) { return infos[cpu]; }
unsigned nr_cpus;                       /* none that copies_look() is to look at */

void guest_log(const char *, ...) { }
void domain_log(struct domain *, const char *, ...) { }
void printk(const char *, ...) { }
void panic(const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    failed("panic: %s", text);
}

static void take(spinlock_t *l)
{
    BUG_ON(l->t.serving);
    l->t.serving = 1;
}

void spin_lock(spinlock_t *l) { take(l); }
void spin_lock_second(spinlock_t *l) { take(l); }
void spin_unlock(spinlock_t *l)
{
    BUG_ON(!l->t.serving);
    l->t.serving = 0;
}
bool spin_is_held(const spinlock_t *l) { return l->t.serving; }

static bool frames_wait;
void raise_softirq(enum softirq n) { frames_wait |= n == SOFTIRQ_FREE_FRAMES; }

bool preempt_needed(void)
{
    unsigned n = nr_decisions++;

    return n < 64 && decisions >> n & 1;
}

/* --- TLBs ------------------------------------------------------------------------------------------------------------------------- */

void flush_tlb_mask(const cpumask_t *m)
{
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        if (cpumask_test(m, guests.d[i].id))
            flushed(&guests.d[i]);
}

/* A domain may have vCPUs on other CPUs, which know what this one forgets. */
void flush_tlb_local(void) { }
void flush_va_mask(const cpumask_t *, u64) { }

void domain_flush_stale(struct domain *d)
{
    u64 dead;

    if (!is_stale(d))
        return;
    dead = mirror_take_dead(d);
    d->arch.flushed = d->arch.stale;
    flushed(d);
    mirror_free_dead((u32)dead);
}

/* --- Domains ---------------------------------------------------------------------------------------------------------------------- */

struct domain *domain_get_owner(u32 id)
{
    if (id - 1 >= NR_DOMAINS)
        return NULL;
    guests.d[id - 1].refs++;
    return &guests.d[id - 1];
}

/* vCPUs rest between steps: so whoever waits for that need not. Nothing else runs what is scheduled than machine_rest(). */
void domain_pause(struct domain *d) { d->pause_count++; }
void domain_pause_nowait(struct domain *d) { d->pause_count++; }
void domain_unpause(struct domain *d) { d->pause_count--; }
void tasklet_schedule(struct tasklet *t) { t->queued = true; }

void machine_rest(void)
{
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        struct tasklet *t = &guests.d[i].arch.store_rest;

        if (!t->queued)
            continue;
        t->queued = false;
        t->fn(t->data);
    }
}

void domain_ref(struct domain *d) { d->refs++; }
void domain_put(struct domain *d) { d->refs--; }
struct domain xen_domain = { .id = DOMID_XEN, .refs = 1 };
struct domain *dom0;

/* Each may do with the other what a control domain may. */
struct domain *domain_target_of(const char *, u32 id, s64 *err)
{
    struct domain *d = domain_get_owner(id);

    if (!d)
        *err = -ESRCH;
    return d;
}

bool rangeset_contains(const struct rangeset *r, u64 first, u64 last)
{
    return r == (struct rangeset *)&guests.d[0] && first == DEVICE_MFN && last == DEVICE_MFN;
}

u64 l1tf_addresses = 0xfffffff000UL;
bool may_name_others(struct domain *, mfn_t) { return size->kinds & OTHERS; }
bool grants_map(const struct domain *, mfn_t) { return size->kinds & KIND(GRANT_MAP); }     /* who has which is not kept */

void pv_load_cr3(struct vcpu *) { }
void pv_load_ldt(const struct vcpu *) { }
void pv_destroy_ldt(struct vcpu *) { }
bool desc_check_page(const struct domain *, void *page) { return !((const u64 *)page)[0]; }

/* --- Guests' memory: the arguments of a hypercall, at addresses of ours --------------------------------------------------------------- */

int copy_from_guest(void *dst, gva_t src, size_t len) { memcpy(dst, (const void *)src.v, len); return 0; }
int copy_to_guest(gva_t dst, const void *src, size_t len) { memcpy((void *)dst.v, src, len); return 0; }
enum abi_word current_word(void) { return current->domain->arch.word; }
enum abi_word domain_word(const struct domain *d) { return d->arch.word; }
void fetch_note(u64, size_t) { }
u32 fetch_mark(void) { return 0; }
void fetch_forget(u32) { }

int guest_read_abi_(const struct abi_desc *d, void *internal, gva_t src)
{
    abi_decode(current_word(), d, internal, (const void *)src.v);
    return 0;
}

/* --- Memory of the hypervisor's and of guests: always the first that is free, so that the heap is no part of a state ------------------ */

#define NOBODYS ((u64)DOMID_INVALID << FR_OWNER_SHIFT)
#define OURS    ((u64)DOMID_XEN << FR_OWNER_SHIFT)
static u64 fixed_next;
static bool pool_is_open;               /* what is allocated from now on is mirrors, and their row */
static void *row_page;
struct changing changing __attribute__((aligned(64)));

mfn_t alloc_frames(unsigned order, unsigned)
{
    if (!order && !pool_is_open) {
        BUG_ON(fixed_next >= FIXED_FIRST + FIXED_NR);
        fake_refs[fixed_next] = OURS;
        return mfn_kept(fixed_next++);
    }
    if (changing.short_of_memory)
        return INVALID_MFN;
    for (u64 m = POOL_FIRST; m < POOL_FIRST + nr_blocks * BLOCK; m += BLOCK) {
        if (fake_refs[m] != NOBODYS)
            continue;
        for (u64 i = 0; i < 1UL << order; i++)
            fake_refs[m + i] = OURS;
        return mfn_kept(m);
    }
    failed("more mirrors wait for a flush than there are frames that can have been tables");
}

mfn_t alloc_claimed_frames(u64 *, unsigned order, unsigned)
{
    BUG_ON(order);
    for (unsigned n = 0; n < nr_all; n++)
        if (fake_refs[FRAME_FIRST + n] == NOBODYS)
            return frame_mfn(n);
    return INVALID_MFN;
}

static void look_at_freed(u64 m)
{
    for (unsigned i = 0; m >= FRAME_FIRST && i < NR_DOMAINS; i++)
        if (known[i].writable[m - FRAME_FIRST] || known[i].table[m - FRAME_FIRST])
            wrong = "a frame is free to which a CPU may still have a translation";
    if (walkable[m])
        wrong = "a mirror is freed which a CPU may still walk";
}

void free_frames(mfn_t m, unsigned order)
{
    u64 *line[PAGE_SIZE / 64];

    for (u64 f = m.v; f < m.v + (1UL << order); f++) {
        BUG_ON(f < POOL_FIRST || fake_refs[f] == (f < FRAME_FIRST ? NOBODYS : OURS));
        look_at_freed(f);
        for (unsigned n = frame_lines(f, line); n--;)
            memset(line[n], 0, 64);
        fake_refs[f] = NOBODYS;
        fake_types[f] = 0;
    }
}

void *alloc_pages(unsigned)
{
    if (!pool_is_open)
        return mfn_to_virt(alloc_frames(0, 0));
    BUG_ON(changing.row);
    return changing.short_of_memory ? NULL : row_page;
}

void free_pages(void *p, unsigned)
{
    BUG_ON(p && p != row_page);
    if (p)
        memset((u32 *)p + FRAME_FIRST, 0, nr_all * sizeof(u32));
}
mfn_t virt_to_mfn(const void *p) { return mfn_kept(((u64)p - DIRECTMAP_START) >> PAGE_SHIFT); }

/* The only thing of which there may be more and less: domain 1's rows of mirrors' numbers, of which it needs one. */
void *xzalloc_bytes(size_t bytes)
{
    if (!pool_is_open)
        return calloc(1, bytes);
    BUG_ON(bytes > sizeof(changing.row) || guests.d[0].arch.mirror);
    return changing.short_of_memory ? NULL : &changing.row;
}

void xfree(void *p)
{
    BUG_ON(p != &changing.row);
    changing.row = NULL;
}

/* The hypervisor's entries: ones that no guest may have. */
#define HYP_ENTRY (HYP_MFN << PAGE_SHIFT | PTE_P | PTE_RW)
u64 *hyp_l4 = (u64[512]){ [0 ... 511] = HYP_ENTRY };
u64 compat_m2p_l2e(unsigned) { return HYP_ENTRY; }
bool compat_m2p_ready;
void compat_m2p_set(u64, u64) { }
u64 hyp_nx;
bool heap_ready = true;

/* --- Steps ------------------------------------------------------------------------------------------------------------------------ */

const char *step_ends(void)
{
    while (frames_wait) {
        frames_wait = false;
        frames_drain_pending();
    }
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        look_at_known(&guests.d[i]);
        if (guests.d[i].refs != 1u + guests.d[i].arch.store_holds)
            wrong = "a reference to a domain is lost";
        if (guests.d[i].pause_count != guests.d[i].arch.store_holds || guests.d[i].arch.store_rest.queued != guests.d[i].arch.store_holds)
            wrong = "a domain is paused, and nothing will let it go on";
        if (guests.d[i].arch.pt_lock.t.serving || guests.d[i].page_lock.t.serving)
            wrong = "a lock is still held";
    }
    if (fmt->levels == 4)
        look_at_copies();
    return wrong;
}

/* --- Setting up ------------------------------------------------------------------------------------------------------------------- */

u64 *machine_line[LINES_MAX];
unsigned nr_lines;
static char memory_at_first[sizeof(memory)];
static struct guests guests_at_first;
static u64 counts[MFN_END];

/* Lines of a page that a table or a mirror may have something in, as bits: slots, the hypervisor's slots, and their twins. */
static u64 page_lines;

static void use_entry(unsigned idx, unsigned bytes) { page_lines |= 1UL << (idx * bytes % PAGE_SIZE / 64); }

static void find_page_lines(void)
{
    page_lines = 1;
    for (unsigned s = 0; s < size->slots; s++) {
        use_entry(slot_index[s], fmt->pte_bytes);
        for (unsigned twin = 0; fmt->id == PT32 && twin < 3; twin++)
            use_entry(slot_index[s] * min(twin + 1, 2u) + twin / 2, 8);
    }
    for (unsigned i = fmt->hv_first; i <= fmt->hv_last; i++) {
        use_entry(i, fmt->pte_bytes);
        for (unsigned twin = 0; fmt->id == PT32 && twin < 3; twin++)
            use_entry(i * min(twin + 1, 2u) + twin / 2, 8);
    }
}

unsigned frame_lines(u64 m, u64 **line)
{
    unsigned n = 0;

    for (u64 left = page_lines; left; left &= left - 1)
        line[n++] = (u64 *)(memory + m * PAGE_SIZE + (unsigned)__builtin_ctzl(left) * 64);
    return n;
}

static void add_lines(const void *p, size_t bytes)
{
    u64 first = (u64)p & ~63UL, end = (u64)p + bytes;

    for (; first < end; first += 64) {
        /* What is in the line before. */
        if (nr_lines && machine_line[nr_lines - 1] == (u64 *)first)
            continue;
        BUG_ON(nr_lines == LINES_MAX);
        machine_line[nr_lines++] = (u64 *)first;
    }
}

static void add_page(u64 m)
{
    u64 *line[PAGE_SIZE / 64];
    unsigned n = frame_lines(m, line);

    for (unsigned i = 0; i < n; i++)
        add_lines(line[i], 64);
}

/* Some of its members, each by itself: what lies between is looked at from time to time. */
static void add_domain(unsigned i)
{
    const struct domain *d = &guests.d[i];
    const struct vcpu *v = &guests.v[i];

    add_lines(d, offsetof(struct domain, vcpu));
    add_lines(&d->page_lock, (size_t)((const char *)&d->regions - (const char *)&d->page_lock));
    add_lines(&d->arch, offsetof(struct arch_domain, relinquish_at) + sizeof(u64));
    add_lines(&v->info_mfn, sizeof(mfn_t));
    add_lines(&v->arch.gdt_frames, (size_t)((const char *)&v->arch.monitor_l4 - (const char *)&v->arch.gdt_frames));
    add_lines(guests.perdomain[i], sizeof(u64));
}

static void find_lines(void)
{
    find_page_lines();
    add_lines(&changing, sizeof(changing));
    if (size->changes)
        add_lines((u32 *)row_page + FRAME_FIRST, nr_all * sizeof(u32));
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        add_domain(i);
    add_lines(&fake_refs[FRAME_FIRST], nr_all * sizeof(u64));
    add_lines(&fake_types[FRAME_FIRST], nr_all * sizeof(u32));
    for (unsigned n = 0; n < nr_all; n++)
        add_page(FRAME_FIRST + n);
    add_lines(&fake_refs[POOL_FIRST], nr_blocks * BLOCK * sizeof(u64));
    add_lines(&fake_types[POOL_FIRST], nr_blocks * BLOCK * sizeof(u32));
    for (u64 m = POOL_FIRST; m < POOL_FIRST + nr_blocks * BLOCK; m++)
        add_page(m);
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        if (mirror_numbers(&guests.d[i]))
            add_lines(mirror_numbers(&guests.d[i]), nr_all * sizeof(u32));
        if (guests.v[i].arch.monitor_l4) {
            add_lines(guests.v[i].arch.monitor_l4, 64);
            add_lines(guests.v[i].arch.monitor_l3, 64);
        }
    }
}

/* Beside the lines that are looked at. */
static bool guests_hold(void)
{
    struct guests now = guests;

    for (unsigned i = 0; i < nr_lines; i++) {
        u64 at = (u64)machine_line[i] - (u64)&guests;

        if (at < sizeof(guests))
            memcpy((char *)&now + at, (char *)&guests_at_first + at, 64);
    }
    return !memcmp(&now, &guests_at_first, sizeof(now));
}

bool machine_rest_holds(void)
{
    bool same = true;

    for (u64 at = 0; same && at < sizeof(memory); at += 64) {
        u64 m = at >> PAGE_SHIFT, line = at % PAGE_SIZE / 64;
        bool may_change = (m >= POOL_FIRST && page_lines >> line & 1) || (m < POOL_FIRST && (line == 0 || line == FRAME_FIRST * 4 / 64));

        same = may_change || !memcmp(memory + at, memory_at_first + at, 64);
    }
    return same && guests_hold();
}

/* What frames of a chain begin with. */
static void write_chain(void)
{
    for (unsigned n = 1; n < nr_all; n++) {
        u64 e = pte_make(frame_mfn(n - 1), PTE_P | PTE_US | PTE_RW | PTE_A | PTE_D);

        memcpy((char *)mfn_to_virt(frame_mfn(n)) + slot_index[0] * fmt->pte_bytes, &e, fmt->pte_bytes);
    }
}

static void init_domain(unsigned i)
{
    struct domain *d = &guests.d[i];
    struct vcpu *v = &guests.v[i];

    d->id = (u16)(i + 1);
    d->refs = 1;
    d->max_pages = nr_all;
    d->regions = calloc(1, sizeof(u64));
    d->iomem = (struct rangeset *)d;
    d->vcpu = &guests.vcpus[i];
    d->max_vcpus = 1;
    d->arch.fmt = fmt;
    d->arch.word = fmt->word_bits == 64 ? ABI_64 : ABI_32;
    d->arch.mirrored = d->arch.mirror_walked = mirrored && !size->changes;
    d->arch.store = d->arch.mirrored && fmt->pte_bytes == 8 ? STORE_MIRRORED : STORE_IN_PLACE;
    d->arch.for_good = size->for_good ? FOR_GOOD_NOT : FOR_GOOD_DENIED;
    pt_store_init(d);
    d->arch.known_l1 = d->arch.known_mirrored_l1 = no_known_table;
    d->arch.perdomain_l3_mfn = mfn_kept(HYP_MFN);
    d->arch.l1tf_span = MFN_END << PAGE_SHIFT;
    cpumask_set(&d->arch.dirty_cpus, d->id);
    BUG_ON(mirror_init_domain(d));
    if (d->arch.mirror)
        d->arch.mirror[0] = alloc_pages(0);
    guests.vcpus[i] = v;
    v->domain = d;
    v->is_initialised = v->arch.kernel_mode = true;
    v->info_mfn = v->arch.root_kernel = v->arch.root_user = v->arch.gdt_frames[0] = INVALID_MFN;
    v->arch.perdomain_l1 = guests.perdomain[i];
    BUG_ON(mirror_init_vcpu(v));
    pv_make_cr3(v);
    d->regions[0] = 1UL << (FRAME_FIRST >> 9);
    for (unsigned n = 0; n < min(size->frames[i], nr_all); n++)
        BUG_ON(mfn_eq(domain_alloc_frames(d, 0, 0), INVALID_MFN));
}

void machine_init(enum pt_format_id format)
{
    fmt = &pt_formats[format];
    nr_all = size->chain ? fmt->levels + 1u - chain_level(0) : size->frames[0] + size->frames[1] + size->free;
    keep_names = size->chain;
    nr_frames = FRAME_FIRST + nr_all;
    mirrored = fmt->id == PT32 || size->mirrored || size->changes;
    nr_blocks = mirrored ? (size->frames[1] ? 3 : 2) * nr_all : 0;
    BUG_ON(nr_all > FRAMES_MAX);
    /* One of the first four entries, for PAE's level 3 the last of them, which it must have; and one of the table's middle. */
    slot_index[0] = format == PT32P ? 3 : 0;
    slot_index[1] = format == PT32P ? 0 : format == PT64 ? 300 : 600;
    fake_direct_map = (u64)memory;
    for (u64 m = 0; m < MFN_END; m++) {
        fake_refs[m] = m >= FRAME_FIRST || (m >= POOL_FIRST && m < POOL_FIRST + BLOCKS * BLOCK) ? NOBODYS : (u64)DOMID_IO << FR_OWNER_SHIFT;
        fake_m2p[m] = M2P_INVALID;
    }
    fixed_next = FIXED_FIRST;
    frames_count_in(counts);
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        init_domain(i);
    row_page = alloc_pages(0);
    pool_is_open = true;
    find_lines();
    if (size->chain)
        write_chain();
    memcpy(memory_at_first, memory, sizeof(memory));
    guests_at_first = guests;
}
