/* See machine.h. */
#include <asm/dirty.h>
#include <asm/dma.h>
#include <asm/isolation.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/smp.h>
#include <public/errno.h>
#include <pvisor/guest.h>
#include <pvisor/hwdom.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/rangeset.h>
#include <pvisor/softirq.h>
#include "machine.h"

/* --- Memory --- */

/* The direct map is where it is on a machine; the options of the run say that these addresses, NR_FRAMES pages, are all that is there. */
u64 fake_direct_map = DIRECT_MAP;
u64 nr_frames = NR_FRAMES;
u64 fake_refs[NR_FRAMES], fake_m2p[NR_FRAMES];
u32 fake_types[NR_FRAMES];

mfn_t any_frame(void) { return mfn_kept(any_u64(0, NR_FRAMES - 1)); }
mfn_t any_mfn(void) { return any_bool() ? any_frame() : INVALID_MFN; }

/* The tables of a domain with entries of 4 bytes lie below 4 GiB: mirror_alloc(). */
mfn_t any_table(void) { return mfn_kept(any_u64(0, min(dom.arch.fmt->pte_bytes == 4 ? 0xfffffu : ~0u, NR_FRAMES - 1))); }

mfn_t held_mfn(u64 e)
{
    u64 m = (e & PTE_MFN_MASK) >> PAGE_SHIFT;

    return m < NR_FRAMES ? mfn_kept(m) : any_frame();
}

/* No device has an IOMMU here. */
bool iommu_on, dma_exact;
struct rangeset *mmio_ro_ranges;
void dma_frames_given(const struct domain *d, u64 first, u64 end, bool shared) { (void)d, (void)first, (void)end, (void)shared; }
void dma_frame_changed(u64 frame) { (void)frame; }
u64 dma_frame_freed(const struct domain *d, u64 frame) { return (void)d, (void)frame, 0; }
void iommu_flush(u64 spaces) { (void)spaces; }
bool dma_is_exact(unsigned space) { (void)space; return false; }
bool dma_is_right(unsigned space, u64 frame) { (void)space, (void)frame; return true; }
bool iommu_reaches(unsigned space, u64 frame) { (void)space, (void)frame; return false; }

/* --- The legal state --- */

#define MIRROR_BLOCK 8      /* frames of the largest: an L2 table's with entries of 4 bytes */
#define LOG_ROWS     3

struct domain dom, other;
struct vcpu vcpu;
static struct vcpu other_vcpu, *vcpus[MAX_VCPUS];
static struct cpu_info this_cpu_info;
static u64 regions[(NR_FRAMES >> 15) + 1];
static u32 mirror_row[1024], *mirror_rows[(NR_FRAMES + 1023) / 1024];
static union { struct dirty_log log; u64 words[sizeof(struct dirty_log) / sizeof(u64) + LOG_ROWS]; } kept;
static u64 hyp_l4_table[512];
u64 *hyp_l4 = hyp_l4_table;
u64 l1tf_addresses, hyp_nx;
bool compat_m2p_ready;
const char zero_page[PAGE_SIZE];

cpumask_t any_cpumask(void)
{
    cpumask_t m;

    Frama_C_make_unknown((char *)&m, sizeof(m));
    return m;
}

static struct known_table any_known(void)
{
    mfn_t m = any_table();

    return any_bool() ? (struct known_table){ m, mfn_to_virt(m) } : no_known_table;
}

/* How far a change of the store has come, which the lock protects as well; what is there for it, mirrored and mirror, stays. */
static void any_store(struct arch_domain *a)
{
    bool changes = a->fmt->pte_bytes == 8;

    a->store_stops = changes && any_bool();
    a->store_short = changes && any_bool();
    a->store_holds = changes && any_bool();
    a->for_good = changes ? (u8)any_u32(FOR_GOOD_NOT, FOR_GOOD_DENIED) : FOR_GOOD_NOT;
    if (!changes)
        return;
    if (a->mirrored)
        a->store = (u8)any_u32(STORE_ALLOCATING, STORE_MIRRORED);
    else
        a->store = a->mirror ? STORE_ENDING : STORE_IN_PLACE;
    a->mirror_walked = a->mirrored && any_bool();
    a->own_faults_64 = a->word == ABI_64 && !a->mirror_walked;
}

/* What is noted of d's writes; that there is a log. */
static void any_log(struct domain *d)
{
    struct dirty_log *log = &kept.log;

    *log = (struct dirty_log){ .nr = any_u64(0, MAX_LOGGED), .rows_made = any_u64(0, LOG_ROWS), .nr_faults = any_u64(0, ~0UL),
                               .lost = any_bool(), .under_way.op = any_u32(0, ~0u), .at = any_u64(0, ~0UL), .dirty = any_u64(0, ~0UL) };
    //@ loop unroll 3;
    for (unsigned i = 0; i < LOG_ROWS; i++)
        log->row[i] = mfn_to_virt(any_frame());
    d->arch.log = log;
    d->arch.logging = any_bool();
    d->arch.log_ready = any_bool();
    d->arch.log_taken = any_bool();
}

/* What d's pt_lock protects, and the words that change without. */
static void any_tables(struct domain *d)
{
    struct arch_domain *a = &d->arch;

    any_store(a);
    a->store_at = any_u64(0, ~0UL);
    a->stale = any_u64(0, ~0UL);
    a->flushed = any_u64(0, ~0UL);
    a->dirty_cpus = any_cpumask();
    a->mirror_dead = any_u32(0, (NR_FRAMES - MIRROR_BLOCK) << 2 | 3);
    a->nr_mirror_dead = any_u32(0, 63);
    a->nr_mirror_frames = any_u64(0, ~0UL);
    a->nr_tables = any_u64(0, ~0UL);
    a->known_l1 = a->mirrored ? no_known_table : any_known();
    a->known_mirrored_l1 = a->fmt->pte_bytes == 4 ? any_known() : no_known_table;
    a->names_roots = any_bool();
    a->nr_orphans = any_u32(0, ARRAY_SIZE(a->orphans));
    //@ loop unroll 16;
    for (unsigned i = 0; i < ARRAY_SIZE(a->orphans); i++)
        a->orphans[i] = any_table();
    for (unsigned i = 0; i < ARRAY_SIZE(mirror_row); i++) {
        mirror_row[i] = any_u32(0, NR_FRAMES - MIRROR_BLOCK);
        mirror_rows[i] = any_of(mirror_row, NULL);
    }
}

/* What d's page_lock protects. */
static void any_accounts(struct domain *d)
{
    d->tot_pages = any_u64(0, ~0UL);
    d->shared_frames = any_u64(0, ~0UL);
    d->outstanding_pages = any_u64(0, ~0UL);
}

/* pt/format.c's, and what follows from it. */
static void any_domain(struct domain *d, enum pt_format_id format, bool mirrors)
{
    Frama_C_make_unknown((char *)d, sizeof(*d));
    d->is_control = any_bool();
    d->is_hardware = any_bool();
    d->dying = (enum domain_dying)any_u32(DOMAIN_ALIVE, DOMAIN_DEAD);
    d->max_vcpus = any_u32(1, MAX_VCPUS);
    d->vcpu = vcpus;
    d->regions = regions;
    d->iomem = any_of((struct rangeset *)d, NULL);
    d->arch.fmt = &pt_formats[format];
    d->arch.word = format == PT64 ? ABI_64 : ABI_32;
    d->arch.mirrored = d->arch.mirror_walked = mirrors;
    d->arch.mirror = mirrors ? mirror_rows : NULL;
    d->arch.mirror_rows = !mirrors ? 0 : format == PT32 ? 1024 : ARRAY_SIZE(mirror_rows);
    any_log(d);
    d->arch.pirq_eoi_mfn = any_frame();
    any_tables(d);
    any_accounts(d);
}

static void any_vcpu(struct vcpu *v, struct domain *d)
{
    Frama_C_make_unknown((char *)v, sizeof(*v));
    v->domain = d;
    v->cpu = any_u32(0, NR_CPUS - 1);
    v->arch.kernel_mode = any_bool();
    v->arch.perdomain_l1 = mfn_to_virt(any_frame());
    v->info_mfn = any_mfn();
    v->runstate_phys.mfn = any_frame();
    v->time_phys.mfn = any_frame();
    v->arch.root_kernel = any_mfn();
    v->arch.root_user = any_mfn();
    v->arch.monitor_l4 = d->arch.word == ABI_32 ? mfn_to_virt(any_frame()) : NULL;
    v->arch.monitor_l3 = d->arch.word == ABI_32 ? mfn_to_virt(any_frame()) : NULL;
}

void any_machine(enum pt_format_id format, bool mirrors)
{
    /* Bounds of loops that are no constants in the code: entries of a table. */
    //@ widen_hints global:"all", 4, 16, 64, 512, 1024;
    Frama_C_make_unknown((char *)fake_refs, sizeof(fake_refs));
    Frama_C_make_unknown((char *)fake_types, sizeof(fake_types));
    Frama_C_make_unknown((char *)fake_m2p, sizeof(fake_m2p));
    Frama_C_make_unknown((char *)regions, sizeof(regions));
    Frama_C_make_unknown((char *)hyp_l4_table, sizeof(hyp_l4_table));
    Frama_C_make_unknown((char *)&this_cpu_info, sizeof(this_cpu_info));
    l1tf_addresses = any_u64(0, ~0UL);
    compat_m2p_ready = any_bool();
    any_domain(&dom, format, mirrors);
    any_domain(&other, format, mirrors);
    any_vcpu(&vcpu, &dom);
    any_vcpu(&other_vcpu, &dom);
    for (unsigned i = 0; i < MAX_VCPUS; i++)
        vcpus[i] = any_of(&vcpu, any_of(&other_vcpu, NULL));
    this_cpu_info.current_vcpu = &vcpu;
    this_cpu_info.cpu = 0;
    any_pending();
}

u64 any_cr4(void) { return any_u64(0, ~0UL); }
struct cpu_info *cpu_info(void) { return &this_cpu_info; }

bool any_logged(void) { return any_bool(); }

void log_dirty_if_any(struct domain *d, mfn_t m)
{
    if (any_logged())
        dirty_log_mark(d, m);
}

/* --- Locks and recursion: the state becomes any that is legal --- */

static void state_changed(struct domain *d)
{
    any_tables(d);
    any_accounts(d);
    any_pending();
}

static void lock_of(const spinlock_t *l, struct domain *d)
{
    if (l == &d->arch.pt_lock)
        any_tables(d);
    else if (l == &d->page_lock)
        any_accounts(d);
}

void lock_taken(const spinlock_t *l)
{
    lock_of(l, &dom);
    lock_of(l, &other);
}

void lock_dropped(const spinlock_t *l)
{
    //@ assert orphans: dom.arch.nr_orphans <= 16;
}

int put_table_below(struct domain *d, mfn_t m)
{
    state_changed(d);
    return any_bool() ? 0 : -ERESTART_HYPERCALL;
}

int get_table_below(struct domain *d, mfn_t m, unsigned level, u32 hv)
{
    state_changed(d);
    return any_bool() ? 0 : (int)-any_u32(1, ERESTART_HYPERCALL);
}

/* --- What is outside of the core --- */

void panic(const char *fmt, ...)
{
    //@ assert stops: \false;
    for (;;)
        ;
}

void guest_log(const char *fmt, ...) { }
void domain_log(struct domain *d, const char *fmt, ...) { }
void printk(const char *fmt, ...) { }
bool preempt_needed(void) { return any_bool(); }
void raise_softirq(enum softirq n) { }
void flush_tlb_mask(const cpumask_t *m) { }
void domain_flush_stale(struct domain *d) { }
bool isolation_any_linear(struct domain *d) { return any_bool(); }
void isolation_forget(const struct domain *d, mfn_t root) { }
bool rangeset_contains(const struct rangeset *r, u64 first, u64 last) { return any_bool(); }
u64 compat_m2p_l2e(unsigned nth) { return any_u64(0, ~0UL); }
void compat_m2p_set(u64 m, u64 gpfn) { }
bool any_ram(void) { return any_bool(); }
struct domain *domain_get_owner(u32 domid) { return any_bool() ? &dom : any_bool() ? &other : NULL; }
struct domain *domain_get_next(u32 domid) { return domain_get_owner(domid); }
void domain_put(struct domain *d) { }
bool spin_is_held(const spinlock_t *l) { return true; }
bool rangeset_is_empty(const struct rangeset *r) { return any_bool(); }
struct pci_dev *pci_find_owned(u16 domid) { return any_of((struct pci_dev *)&other, NULL); }
void domain_pause(struct domain *d) { }
void domain_pause_nowait(struct domain *d) { }
void domain_unpause(struct domain *d) { }
void domain_ref(struct domain *d) { }
void tasklet_schedule(struct tasklet *t) { }

#define LARGEST_BLOCK 16    /* frames that anybody asks for at once */

mfn_t alloc_frames(unsigned order, unsigned flags)
{
    return any_bool() ? mfn_kept(any_u64(1, NR_FRAMES - LARGEST_BLOCK)) : INVALID_MFN;
}

mfn_t alloc_claimed_frames(u64 *claim, unsigned order, unsigned flags) { return alloc_frames(order, flags); }

void free_frames(mfn_t m, unsigned order)
{
    //@ assert bounded: m.v < nr_frames;
}

/* Pages: for a PAE vCPU's top levels, a log, or a mirrored domain's array, in which all rows are one here. */
void *alloc_pages(unsigned order)
{
    return any_bool() ? dom.arch.mirrored ? (void *)mirror_row : mfn_to_virt(any_frame()) : NULL;
}

void free_pages(void *p, unsigned order) { }
/* That array, or a log, which is smaller. */
void *xzalloc_bytes(size_t size) { return any_bool() ? size > sizeof(kept) ? (void *)mirror_rows : (void *)&kept : NULL; }
void xfree(void *p) { }
