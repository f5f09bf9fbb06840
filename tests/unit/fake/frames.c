/* See frames.h. */
#include <sys/mman.h>

#include <asm/atomic.h>
#include <asm/dirty.h>
#include <asm/dma.h>
#include <asm/isolation.h>
#include <asm/pv.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include <pvisor/softirq.h>
#include "fake.h"
#include "frames.h"

void *calloc(size_t n, size_t size);
void free(void *p);

u64 fake_direct_map, fake_refs[ARENA_END], fake_m2p[ARENA_END];
u32 fake_types[ARENA_END];
u64 hyp_nx;
void (*on_flush)(u16 domid);
void (*on_root_change)(mfn_t root);

static struct domain *domains[3];
static struct vcpu vcpus[3];
static unsigned calls, yes_at, yes_step;
static bool work_waits;

/* --- What the code under test wants of the machine --------------------------------------------------- */

void raise_softirq(enum softirq n) { work_waits |= n == SOFTIRQ_FREE_FRAMES; }

static void flushed(u16 id)
{
    if (on_flush)
        on_flush(id);
}

/* Each domain runs on the CPU of its number. */
void flush_tlb_mask(const cpumask_t *m)
{
    for (u16 id = 1; id < ARRAY_SIZE(domains); id++)
        if (cpumask_test(m, id))
            flushed(id);
}

void domain_flush_stale(struct domain *d)
{
    u64 dead;

    if (d->arch.flushed == d->arch.stale)
        return;
    dead = mirror_take_dead(d);
    d->arch.flushed = d->arch.stale;
    flushed(d->id);
    mirror_free_dead(dead);
}

u64 l1tf_addresses = 0xfffffff000UL;    /* of a CPU with 40 address bits */

void isolation_forget(const struct domain *d, mfn_t root)
{
    (void)d;
    if (on_root_change)
        on_root_change(root);
}

bool isolation_any = true;
bool isolation_any_linear(struct domain *d) { d->arch.names_roots = true; return isolation_any; }

bool preempt_needed(void)
{
    calls++;
    return yes_at && calls >= yes_at && (calls - yes_at) % yes_step == 0;
}

void preempt_every(unsigned n, unsigned step)
{
    calls = 0;
    yes_at = n;
    yes_step = step;
}

void preempt_at(unsigned n, bool sticky) { preempt_every(n, sticky ? 1 : ~0u); }

unsigned preempt_calls(void) { return calls; }

void leave_hypervisor(void)
{
    while (work_waits) {
        work_waits = false;
        frames_drain_pending();
    }
}

struct domain *domain_get_owner(u32 domid)
{
    if (domid >= ARRAY_SIZE(domains) || !domains[domid])
        return NULL;
    domains[domid]->refs++;
    return domains[domid];
}

void domain_put(struct domain *d) { d->refs--; }

bool rangeset_contains(const struct rangeset *r, u64 first, u64 last)
{
    return r == (struct rangeset *)&domains[1] && first == DEVICE_MFN && last == DEVICE_MFN;
}

/* The hypervisor's entries: ones that no guest may have, to see that nothing takes them for a guest's. */
#define HYP_ENTRY (0x77UL << PAGE_SHIFT | PTE_P | PTE_RW)
u64 *hyp_l4 = (u64[512]){ [0 ... 511] = HYP_ENTRY };
u64 compat_m2p_l2e(unsigned nth) { (void)nth; return HYP_ENTRY; }

/* No mirrors, unless a test links pt/mirror.c. */
#define FAKE __attribute__((weak))
FAKE int mirror_wanted(struct domain *d, mfn_t m, unsigned level) { return mirror_alloc(d, m, level); }
FAKE bool mirror_wanted_for_good(struct domain *d) { (void)d; return false; }
FAKE void pt_mirror_step(struct domain *d) { (void)d; }
FAKE void mirror_twins(const struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    (void)d, (void)m, (void)level, (void)idx, (void)e;
}
FAKE void mirror_show_m2p(const struct domain *d, mfn_t root, u64 e) { (void)d, (void)root, (void)e; }
FAKE int mirror_init_domain(struct domain *d) { (void)d; return 0; }
FAKE void mirror_free_domain(struct domain *d) { (void)d; }
FAKE int mirror_alloc(struct domain *d, mfn_t m, unsigned level) { (void)d, (void)m, (void)level; return -1; }
FAKE void mirror_free(struct domain *d, mfn_t m, unsigned level) { (void)d, (void)m, (void)level; }
FAKE void mirror_free_dead(u32 list) { (void)list; }
FAKE void mirror_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    (void)d, (void)m, (void)level, (void)idx, (void)e;
}
FAKE void mirror_root_changed(struct domain *d, mfn_t m, unsigned idx, u64 e) { (void)d, (void)m, (void)idx, (void)e; }

/* No log, unless it links pt/dirty.c. */
__attribute__((weak)) u32 nr_dirty_logs;
FAKE void frame_log_dirty(mfn_t m) { (void)m; }
FAKE void dirty_log_mark(struct domain *d, mfn_t m) { (void)d, (void)m; }
FAKE bool dirty_log_has(const struct domain *d, mfn_t m) { (void)d, (void)m; return true; }
FAKE void log_dirty_leaf(struct domain *d, u64 e) { (void)d, (void)e; }
FAKE bool may_write_unlogged(const struct domain *d, mfn_t m, u64 e) { (void)d, (void)m, (void)e; return true; }
FAKE void log_first_write(struct domain *d, mfn_t m) { (void)d, (void)m; }
bool compat_m2p_ready;
void compat_m2p_set(u64 m, u64 gpfn) { (void)m, (void)gpfn; }

/* --- Devices of domain 1 --- */

bool iommu_on = true;
static bool reached[SPACE_FIRST_DOMU + 2][ARENA_END];
static bool known[ARRAY_SIZE(reached)][ARENA_END];      /* what a unit has read and not been told to forget */
void (*on_unit_flush)(u64 spaces);

bool iommu_wanted(void) { return true; }
bool iommu_strict(void) { return false; }
void iommu_start(bool (*may_write)(u64 first, u64 last)) { (void)may_write; }
unsigned iommu_nr_spaces(void) { return ARRAY_SIZE(reached); }
bool iommu_reaches(unsigned space, u64 frame) { return space < ARRAY_SIZE(reached) && reached[space][frame]; }
void smp_call(const cpumask_t *cpus, void (*fn)(void *), void *data) { (void)cpus, fn(data); }

bool unit_knows(unsigned space, mfn_t m) { return known[space][m.v]; }

int iommu_space_make(unsigned space)
{
    memset(&reached[space][ARENA_FIRST], 0, ARENA_NR);
    memset(&known[space][ARENA_FIRST], 0, ARENA_NR);
    return 0;
}

/* Frame by frame, so that it can give way anywhere. */
bool iommu_space_end(unsigned space, u64 *first)
{
    *first = max(*first, (u64)ARENA_FIRST);
    if (*first < ARENA_END) {
        known[space][*first] = false;
        reached[space][(*first)++] = false;
    }
    return *first == ARENA_END;
}

int iommu_set(unsigned space, u64 first, u64 end, bool may)
{
    for (u64 m = first; m < end; m++)
        reached[space][m] = known[space][m] = may;
    return 0;
}

bool iommu_forget(unsigned space, u64 frame)
{
    bool was = reached[space][frame];

    reached[space][frame] = false;
    return was;
}

void iommu_flush(u64 spaces)
{
    for (unsigned space = 0; space < ARRAY_SIZE(reached); space++)
        if (spaces >> space & 1)
            memcpy(&known[space][ARENA_FIRST], &reached[space][ARENA_FIRST], ARENA_NR);
    if (on_unit_flush)
        on_unit_flush(spaces);
}

bool iommu_no_memory;
int iommu_follow(unsigned space, u64 frame, bool (*may)(unsigned space, u64 frame))
{
    if (iommu_no_memory && may(space, frame))
        return -ENOMEM;
    return iommu_set(space, frame, frame + 1, may(space, frame));
}

/* --- Setting up ---------------------------------------------------------------------------------------- */

u64 *frame_words(mfn_t m) { return mfn_to_virt(m); }

void frames_reset(void)
{
    static void *arena;

    if (!arena) {
        arena = mmap(NULL, ARENA_NR * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        BUG_ON(arena == MAP_FAILED);
        fake_direct_map = (u64)arena - ARENA_FIRST * PAGE_SIZE;
        for (u64 m = 0; m < ARENA_FIRST; m++)
            fake_refs[m] = (u64)DOMID_IO << FR_OWNER_SHIFT;
    }
    leave_hypervisor();
    for (unsigned i = 1; i < ARRAY_SIZE(domains); i++) {
        if (domains[i]) {
            BUG_ON(dma_space_drop(domains[i]));
            mirror_free_domain(domains[i]);
            free(domains[i]->regions);
        }
        free(domains[i]);
        domains[i] = NULL;
    }
    nr_frames = ARENA_END;
    memset(fake_types + ARENA_FIRST, 0, ARENA_NR * sizeof(fake_types[0]));
    BUG_ON(madvise(arena, ARENA_NR * PAGE_SIZE, MADV_DONTNEED));        /* zeros again, where anything was written */
    heap_ready = false;
    heap_init_region(mfn(ARENA_FIRST), ARENA_NR);
    preempt_at(0, false);
    on_flush = NULL;
    on_root_change = NULL;
    on_unit_flush = NULL;
    isolation_any = true;
}

const char zero_page[PAGE_SIZE];
__attribute__((weak)) const struct known_table no_known_table = { INVALID_MFN, zero_page };    /* else pt/table.c's */

struct domain *frames_domain(u16 id, enum pt_format_id fmt)
{
    struct domain *d = domains[id] = calloc(1, sizeof(*d));

    d->id = id;
    d->refs = 1;
    d->arch.known_l1 = d->arch.known_mirrored_l1 = no_known_table;
    d->max_pages = ARENA_NR;
    d->arch.fmt = &pt_formats[fmt];
    d->arch.mirrored = d->arch.mirror_walked = fmt == PT32;
    BUG_ON(mirror_init_domain(d));
    d->arch.word = d->arch.fmt->word_bits == 64 ? ABI_64 : ABI_32;
    d->regions = calloc(ARENA_END / 512 / 64 + 1, sizeof(u64));
    d->iomem = (struct rangeset *)&domains[id];
    cpumask_set(&d->arch.dirty_cpus, id);
    spin_lock_init(&d->arch.pt_lock, RANK_PT);
    spin_lock_init(&d->page_lock, RANK_PAGES);
    vcpus[id].domain = d;
    if (id == 1) {
        cpu_info()->current_vcpu = &vcpus[id];
        BUG_ON(dma_space(d) < 0);       /* it has devices */
    }
    return d;
}

mfn_t frames_new(struct domain *d)
{
    mfn_t m = domain_alloc_frames(d, 0, d->arch.fmt->pte_bytes == 4 ? MEMF_LOW : 0);

    BUG_ON(mfn_eq(m, INVALID_MFN));
    return m;
}
