/*
 * The change of the store (pt/store.c), in all formats: a domain's tables are mirrored, and are no more, whatever it does meanwhile and
 * wherever that gives way; and the log (pt/dirty.c, common/control/dirty_log.c): nothing that is written between two reports is missing in
 * the second.
 */
// SOURCES: arch/x86/pt/dma.c arch/x86/pt/store.c arch/x86/pt/dirty.c arch/x86/pt/mirror.c
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/frames.c common/abi.c
// SOURCES: tests/unit/fake/invariant.c tests/unit/fake/clause.c arch/x86/pt/invariant.c arch/x86/pt/mirror_invariant.c
// SOURCES: arch/x86/mm/heap.c
// SOURCES: arch/x86/mm/frames.c arch/x86/pt/frame.c arch/x86/pt/format.c arch/x86/pt/table.c arch/x86/pt/entry.c arch/x86/pt/walk.c
// SOURCES: arch/x86/pt/quick.c
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include <asm/dirty.h>
#include <pvisor/pci.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/evtchn.h>
#include <pvisor/gnttab.h>
#include <pvisor/hypercall.h>
#include <pvisor/rangeset.h>
#include <pvisor/softirq.h>
#include "fake/fake.h"
#include "fake/frames.h"
#include "fake/invariant.h"
#include "fake/mirrors.h"

#include "../../arch/x86/pt/internal.h"
#include "../../common/control/dirty_log.c"

#define AGAIN (-ERESTART_HYPERCALL)
#define DATA  24u       /* pages of the domain's, with the numbers 0 to DATA - 1; tables come behind */
#define ROOM  200u

static struct domain *dom;
static struct vcpu vcpu, *vcpus[] = { &vcpu };
static u64 perdomain[PERVCPU_PAGES];
static const struct pt_format *fmt;
static mfn_t data[DATA], table[5], spare;
static unsigned paused, nr_tables_made;
static u64 random_state;

/* --- What the code wants of the machine --------------------------------------------------------------------- */

static struct tasklet *waiting;

void domain_pause(struct domain *d) { (void)d; paused++; }
void domain_pause_nowait(struct domain *d) { domain_pause(d); }
void domain_unpause(struct domain *d) { (void)d; assert_true(paused); paused--; }
void domain_ref(struct domain *d) { d->refs++; }
void tasklet_schedule(struct tasklet *t) { waiting = t; }
bool rangeset_is_empty(const struct rangeset *r) { (void)r; return true; }
u64 domain_nr_gpfns(const struct domain *d) { (void)d; return ROOM; }

/* A grant table of that many frames; what the first entry of each grants is mapped for writing. */
#define GRANTED 5u
static bool has_grants;
bool gnttab_for_writable(struct domain *d, u32 i, void (*fn)(struct domain *d, mfn_t m))
{
    if (!has_grants || i >= GRANTED)
        return false;
    fn(d, data[i]);
    return true;
}

void evtchn_for_frames(struct domain *d, void (*fn)(struct domain *d, mfn_t m)) { (void)d, (void)fn; }

/* Lines that no limit keeps back. */
static unsigned host_lines;
void printk(const char *fmt, ...) { host_lines += fmt != NULL; }

static u64 bitmap[ROOM / 64 + 1];
static bool bitmap_fails;
int copy_to_guest(gva_t dst, const void *src, size_t len)
{
    assert_true(dst.v >= PAGE_SIZE && dst.v + len <= PAGE_SIZE + sizeof(bitmap));
    if (bitmap_fails)
        return -1;
    memcpy((char *)bitmap + (dst.v - PAGE_SIZE), src, len);
    return 0;
}

/* --- A domain -------------------------------------------------------------------------------------------------- */

#define RO (PTE_P | PTE_US | PTE_A)
#define RW (RO | PTE_RW | PTE_D)

static u64 random_below(u64 n)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return (random_state >> 33) % n;
}

static u64 load(mfn_t m, unsigned i) { return pt_load(fmt, frame_words(m), i); }

static void put(mfn_t m, unsigned i, u64 e)
{
    if (fmt->pte_bytes == 8)
        frame_words(m)[i] = e;
    else
        ((u32 *)frame_words(m))[i] = (u32)e;
}

static mfn_t new_frame(u64 pfn)
{
    mfn_t m = frames_new(dom);

    m2p_set(m, pfn);
    return m;
}

static unsigned top_slot(void) { return fmt->id == PT32P ? 3 : 1; }

/* One table of each level, all of whose entries lead on; the upper ones name themselves, too, where a format allows that. */
static void make_tables(void)
{
    for (unsigned i = 0; i < DATA; i++)
        data[i] = new_frame(i);
    for (unsigned level = 1; level <= fmt->levels; level++)
        table[level] = new_frame(DATA + nr_tables_made++);
    spare = new_frame(DATA + nr_tables_made++);
    for (unsigned i = 0; i < DATA; i++)
        put(table[1], i, pte_make(data[i], i % 3 == 2 ? RO : RW));
    for (unsigned level = 2; level <= fmt->levels; level++)
        put(table[level], level == fmt->levels ? top_slot() : 1, pte_make(table[level - 1], level == 3 && fmt->id == PT32P ? PTE_P : RW));
    if (fmt->id != PT32P)
        put(table[fmt->levels], 2, pte_make(table[fmt->levels], RO));
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, table[fmt->levels], fmt->levels), 0);
    pt_unlock(dom);
    vcpu.arch.root_kernel = table[fmt->levels];
    vcpu.arch.kernel_mode = true;
}

static int setup_format(enum pt_format_id id)
{
    frames_reset();
    fake_invariant_reset();
    dom = frames_domain(1, id);
    pt_store_init(dom);
    fmt = dom->arch.fmt;
    dom->vcpu = vcpus;
    dom->max_vcpus = 1;
    dom->max_pages = ROOM;
    vcpu = (struct vcpu){ .domain = dom, .info_mfn = INVALID_MFN };
    vcpu.arch.perdomain_l1 = perdomain;
    vcpu.arch.root_kernel = vcpu.arch.root_user = INVALID_MFN;
    assert_int_equal(mirror_init_vcpu(&vcpu), 0);
    nr_tables_made = paused = 0;
    has_grants = false;
    waiting = NULL;
    host_lines = 0;
    bitmap_fails = false;
    random_state = id + 1;
    make_tables();
    if (vcpu.arch.monitor_l4) {
        pt_lock(dom);
        mirror_set_root(&vcpu);
        pt_unlock(dom);
    }
    pv_make_cr3(&vcpu);
    return 0;
}

static int setup_64(void **state) { (void)state; return setup_format(PT64); }
static int setup_pae(void **state) { (void)state; return setup_format(PT32P); }
static int setup_32(void **state) { (void)state; return setup_format(PT32); }

static int teardown(void **state)
{
    (void)state;
    preempt_at(0, false);
    while (dirty_log_stop(dom) == AGAIN)
        ;
    mirror_free_vcpu(&vcpu);
    while (pt_relinquish(dom))
        ;
    leave_hypervisor();
    assert_int_equal(dom->tot_pages, 0);
    assert_int_equal(dom->arch.nr_mirror_frames, 0);
    assert_int_equal(dom->refs, 1);
    assert_int_equal(paused, 0);
    assert_int_equal(nr_dirty_logs, 0);
    mirror_free_domain(dom);
    dirty_log_free(dom);
    assert_int_equal(heap_free_frames(), ARENA_NR);
    return 0;
}

static u64 address_of(unsigned page)
{
    u64 va = (u64)top_slot() << fmt->level[fmt->levels].shift | (u64)page << PAGE_SHIFT;

    for (unsigned level = 2; level < fmt->levels; level++)
        va |= 1UL << fmt->level[level].shift;
    return va;
}

/* --- What the CPU does ----------------------------------------------------------------------------------------- */

/* By what it walks: the twin, or the guest's entry, of the page. */
static bool cpu_may_write(unsigned page)
{
    mfn_t block = mirror_of(dom, table[1]);
    u64 e = dom->arch.mirror_walked ? frame_words(block)[page] : load(table[1], page);

    return (e & (PTE_P | PTE_RW)) == (PTE_P | PTE_RW);
}

/* True: the guest may write there, and has. */
static bool guest_writes(unsigned page)
{
    u32 error = PF_WRITE | PF_USER | PF_PRESENT;

    if (dom->arch.word == ABI_32)
        error &= ~PF_USER;
    if (!cpu_may_write(page) && !(dom->arch.mirror_walked && mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(page), error)))
        return false;
    assert_true(cpu_may_write(page));
    frame_words(pte_mfn(load(table[1], page)))[7]++;
    return true;
}

static void check(void)
{
    assert_false(spin_is_held(&dom->arch.pt_lock));
    mirrors_look(dom);
}

/* What the guest does to its tables; each may come at any moment. */
static void guest_changes(void)
{
    unsigned page = (unsigned)random_below(DATA);
    u64 e = random_below(4) ? pte_make(data[random_below(DATA)], random_below(2) ? RW : RO) : 0;

    pt_lock(dom);
    (void)pt_update_leaf(dom, table[1], page, e, dom, 0);
    if (random_below(2) && !pt_drain_orphans(dom)) {
        bool pinned = pt_own_level(dom, spare);

        (void)(pinned ? pt_unpin(dom, spare) : pt_pin(dom, spare, 1));
    }
    if (random_below(2))
        (void)pt_update_node(dom, table[2], 2, 3, random_below(2) ? pte_make(spare, RW) : 0, 0);
    pt_unlock(dom);
}

/* Whatever guest_changes() has made of it, it is no table any more. With the lock held. */
static void let_go_of_spare(void)
{
    while (pt_drain_orphans(dom))
        ;
    if (pt_own_level(dom, spare)) {
        (void)pt_update_node(dom, table[2], 2, 3, 0, 0);
        (void)pt_unpin(dom, spare);
    }
}

static int go_on(int (*change)(struct domain *d), unsigned give_way)
{
    int rc;

    do {
        preempt_at(give_way, true);
        rc = change(dom);
        preempt_at(0, false);
        guest_changes();
        check();
    } while (rc == AGAIN);
    return rc;
}

static int begin(unsigned give_way) { return go_on(pt_mirror_begin, give_way); }
static int end(unsigned give_way) { return go_on(pt_mirror_end, give_way); }

/* --- The change -------------------------------------------------------------------------------------------------- */

static void changes_to_and_fro(void **state)
{
    (void)state;
    for (unsigned give_way = 0; give_way < 40; give_way++) {
        u64 cr3 = vcpu.arch.cr3, top = vcpu.arch.monitor_l4 ? ((u64 *)vcpu.arch.monitor_l4)[0] : 0;

        assert_int_equal(begin(give_way), 0);
        assert_true(dom->arch.mirrored && dom->arch.mirror_walked);
        assert_true(dom->arch.nr_mirror_frames >= 1);
        for (unsigned i = 0; i < 30; i++) {
            guest_changes();
            (void)guest_writes((unsigned)random_below(DATA));
            check();
        }
        assert_int_equal(end(give_way), 0);
        if (fmt->pte_bytes == 4)
            continue;
        assert_false(dom->arch.mirrored || dom->arch.mirror_walked || dom->arch.mirror);
        assert_int_equal(dom->arch.nr_mirror_frames, 0);
        assert_int_equal(vcpu.arch.cr3, cr3);
        assert_int_equal(vcpu.arch.monitor_l4 ? ((u64 *)vcpu.arch.monitor_l4)[0] : 0, top);
    }
}

/* A CPU that walks a mirror walks no table of the guest's: not one frame of these is named above level 1. */
static void the_cpu_walks_mirrors_alone(void **state)
{
    mfn_t m;

    (void)state;
    assert_int_equal(begin(0), 0);
    for (unsigned level = 2; level <= fmt->levels; level++) {
        mfn_t block = mirror_of(dom, table[level]);

        for (unsigned k = 2; !mfn_eq(block, INVALID_MFN) && k <= level; k++)
            for (unsigned i = 0; i < fmt->level[level].nr_entries; i++) {
                u64 e = frame_words(mfn_add(block, k - 1))[i];

                if (e & PTE_P && (level != fmt->hv_level || i < fmt->hv_first || i > fmt->hv_last))
                    assert_int_equal(frame_owner_id(pte_mfn(e)), DOMID_XEN);
            }
    }
    m = fmt->id == PT64 ? mfn(vcpu.arch.cr3 >> PAGE_SHIFT) : pte_mfn(((u64 *)vcpu.arch.monitor_l3)[3]);
    assert_int_equal(frame_owner_id(m), DOMID_XEN);
}

/* Through a linear entry the guest sees its own tables. */
static void linear_entries_show_the_guests_tables(void **state)
{
    u64 va = 2UL << 39 | 2UL << 30 | 2UL << 21 | 1UL << 12;     /* what the root's entry 1 names: table[3], as data */
    mfn_t block;

    (void)state;
    assert_int_equal(begin(0), 0);
    block = mirror_of(dom, table[4]);
    assert_true(mirror_fault(&vcpu, vcpu.arch.root_kernel, va, PF_USER));
    for (unsigned k = 4; k > 1; k--)
        assert_int_equal(pte_mfn(frame_words(mfn_add(block, k - 1))[2]).v, mfn_add(block, k - 2).v);
    assert_int_equal(pte_mfn(frame_words(block)[1]).v, table[3].v);
    assert_int_equal(frame_words(block)[1] & PTE_RW, 0);
    assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, va, PF_USER | PF_WRITE | PF_PRESENT));
    /* And what may not be executed there may not be here. */
    pt_lock(dom);
    assert_int_equal(pt_update_node(dom, table[4], 4, 1, pte_make(table[3], RW | PTE_NX), 0), 0);
    pt_unlock(dom);
    assert_true(frame_words(block)[1] & PTE_NX);
    check();
}

/* What the guest's entry has but does not permit faults as what is present, though the twin was not: writes to page tables are known by it. */
static void what_is_not_permitted_faults_as_present(void **state)
{
    u32 error = dom->arch.word == ABI_32 ? PF_WRITE : PF_WRITE | PF_USER;

    (void)state;
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, pte_make(data[0], PTE_P | PTE_US), dom, 0), 0);
    assert_int_equal(pt_update_leaf(dom, table[1], 1, 0, dom, 0), 0);
    pt_unlock(dom);
    preempt_at(0, false);
    while (pt_mirror_begin(dom) == AGAIN)
        ;
    assert_true(mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(0), error));
    assert_true(frame_words(mirror_of(dom, table[1]))[0] & PTE_P);
    assert_false(cpu_may_write(0));
    assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(0), error | PF_PRESENT));
    assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(1), error));
    check();
}

static mfn_t forgotten;
static void note_forgotten(mfn_t root) { forgotten = root; }

/* With page-table isolation the CPU walks a copy of the root's mirror: an entry that comes to it by a fault ends the copy. */
static void an_entry_that_comes_late_ends_copies_of_the_root(void **state)
{
    (void)state;
    put(table[4], 1, load(table[4], 1) & ~PTE_A);
    while (pt_mirror_begin(dom) == AGAIN)
        ;
    assert_int_equal(frame_words(mfn_add(mirror_of(dom, table[4]), 3))[1], 0);
    forgotten = INVALID_MFN;
    on_root_change = note_forgotten;
    assert_true(mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(0), PF_USER));
    on_root_change = NULL;
    assert_true(frame_words(mfn_add(mirror_of(dom, table[4]), 3))[1] & PTE_P);
    assert_int_equal(forgotten.v, table[4].v);
    check();
}

/* Bits that hardware set in the guest's entries while twins were made come to the twins by a fault. */
static void bits_set_meanwhile_are_kept(void **state)
{
    (void)state;
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, pte_make(data[0], PTE_P | PTE_US | PTE_RW), dom, 0), 0);
    pt_unlock(dom);
    preempt_at(1, true);
    while (dom->arch.store != STORE_FILLING)
        assert_int_equal(pt_mirror_begin(dom), AGAIN);
    preempt_at(0, false);
    assert_int_equal(pt_mirror_begin(dom), 0);
    put(table[1], 0, load(table[1], 0) | PTE_A | PTE_D);
    check();
    assert_false(cpu_may_write(0));
    assert_true(guest_writes(0));
    assert_int_equal(load(table[1], 0) & (PTE_A | PTE_D), PTE_A | PTE_D);
    check();
}

/* A table half way has in the hypervisor's slots what the guest wrote there. Its mirror never does. */
static void our_slots_are_never_the_guests(void **state)
{
    unsigned slot = M2P_RO_START >> 39 & 511;
    mfn_t root = new_frame(DATA + nr_tables_made++), block;

    (void)state;
    put(root, 0, pte_make(table[3], RW));
    put(root, 3, pte_make(table[3], RW));
    put(root, slot, pte_make(data[0], RW));
    preempt_at(1, true);
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, root, 4), AGAIN);
    pt_unlock(dom);
    preempt_at(0, false);
    assert_int_equal(begin(0), 0);
    block = mirror_of(dom, root);
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, root, 4), 0);
    pt_unlock(dom);
    check();
    assert_int_equal(frame_words(mfn_add(block, 3))[slot], hyp_l4[slot]);
}

/* --- Frames that change hands --------------------------------------------------------------------------------- */

static mfn_t wanderer;
static unsigned nr_looks;

static u64 held_once_by(u16 id) { return (u64)id << FR_OWNER_SHIFT | FR_ALLOCATED | FR_COUNTED | 1; }

static void protect_owners(int protection)
{
    u64 page = (u64)&frame_refs[wanderer.v] & ~(u64)(getpagesize() - 1);

    assert_int_equal(mprotect((void *)page, (size_t)getpagesize(), protection), 0);
}

/* Somebody asks whose a frame is: just then another domain's table, which is none any more, becomes this one's. */
static void comes_to_us(int signal)
{
    (void)signal;
    protect_owners(PROT_READ | PROT_WRITE);
    frame_types[wanderer.v] = 0;
    frame_refs[wanderer.v] = held_once_by(1);
}

static int note_look(struct domain *d, mfn_t m)
{
    nr_looks += d == dom && mfn_eq(m, wanderer);
    return 0;
}

static void a_frame_that_comes_meanwhile_is_no_table(void **state)
{
    struct sigaction on_access = { .sa_handler = comes_to_us }, before;

    (void)state;
    wanderer = new_frame(DATA + nr_tables_made++);
    frame_refs[wanderer.v] = held_once_by(2);
    frame_types[wanderer.v] = FW_TYPE(FT_L1) | FW_VALID | 1;
    nr_looks = 0;
    assert_int_equal(sigaction(SIGSEGV, &on_access, &before), 0);
    pt_lock(dom);
    dom->arch.store_at = wanderer.v;
    protect_owners(PROT_NONE);
    assert_int_equal(for_each_table(dom, note_look), 0);
    pt_unlock(dom);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_int_equal(frame_refs[wanderer.v], held_once_by(1));
    assert_int_equal(nr_looks, 0);
}

/* A guest with memory for 2^22 tables that name one has that at its highest count: it gets a mirror, and goes with its domain. */
static void the_highest_count_keeps_no_table_back(void **state)
{
    (void)state;
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, spare, 1), 0);
    pt_unlock(dom);
    frame_refs[spare.v] += 1UL << 31;
    assert_false(frame_get(spare, dom));
    while (pt_mirror_begin(dom) == AGAIN)
        ;
    assert_false(mfn_eq(mirror_of(dom, spare), INVALID_MFN));
    assert_int_equal(pt_mirror_end(dom), 0);
    while (pt_relinquish(dom))
        ;
    frame_refs[spare.v] -= (1UL << 31) - 1;
    frame_put(spare);
    assert_int_equal(frame_refs[spare.v] & FR_COUNT_MASK, 0);
}

/* --- Without memory ---------------------------------------------------------------------------------------------- */

static mfn_t taken[ARENA_NR];
static unsigned nr_taken;

static void take_all(void)
{
    while (!mfn_eq(taken[nr_taken] = alloc_frames(0, MEMF_NO_ZERO), INVALID_MFN))
        nr_taken++;
}

static void give_back(unsigned nr)
{
    while (nr_taken && nr--)
        free_frames(taken[--nr_taken], 0);
}

static void a_mirror_that_cannot_be_had_ends_the_change(void **state)
{
    (void)state;
    for (unsigned nr = 0; nr < 4; nr++) {
        take_all();
        give_back(nr);
        assert_int_equal(begin(0), -ENOMEM);
        assert_false(dom->arch.mirrored || dom->arch.mirror_walked);
        assert_int_equal(dom->arch.store, STORE_IN_PLACE);
        give_back(~0u);
    }
    assert_int_equal(begin(0), 0);
}

static void a_mirror_that_is_missing_later_ends_it_too(void **state)
{
    (void)state;
    assert_int_equal(begin(0), 0);
    pt_lock(dom);
    if (pt_own_level(dom, spare))
        (void)pt_unpin(dom, spare);
    pt_unlock(dom);
    domain_flush_stale(dom);
    take_all();
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, spare, 1), AGAIN);
    assert_int_equal(pt_pin(dom, spare, 1), AGAIN);
    pt_unlock(dom);
    assert_int_equal(paused, 1);
    assert_int_equal(host_lines, 0);    /* it can have that again and again, if it wants to be mirrored for good */
    vcpu.is_running = true;
    waiting->fn(waiting->data);
    assert_true(dom->arch.mirrored);
    vcpu.is_running = false;
    waiting->fn(waiting->data);
    assert_false(dom->arch.mirrored || dom->arch.mirror_walked);
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, spare, 1), 0);
    pt_unlock(dom);
    give_back(~0u);
    assert_int_equal(end(3), 0);
}

/* --- The log ------------------------------------------------------------------------------------------------------ */

static struct dirty_report wanted(bool clean, u64 pages)
{
    return (struct dirty_report){ .op = clean ? 11 : 12, .clean = clean, .bitmap = gva(PAGE_SIZE), .pages = pages };
}

static bool is_set(unsigned page) { return bitmap[page / 64] >> page % 64 & 1; }

static void start_log(unsigned give_way)
{
    int rc;

    do {
        preempt_at(give_way, true);
        rc = dirty_log_start(dom, ROOM);
        preempt_at(0, false);
        guest_changes();
    } while (rc == AGAIN);
    assert_int_equal(rc, 0);
    check();
}

static void let_the_store_end(void)
{
    pt_lock(dom);
    let_go_of_spare();
    domain_flush_stale(dom);
    take_all();
    assert_int_equal(pt_pin(dom, spare, 1), AGAIN);
    pt_unlock(dom);
    waiting->fn(waiting->data);
    waiting = NULL;
    give_back(~0u);
    assert_int_equal(dom->arch.store, STORE_ENDING);
}

/* The mirrored store may end in the middle of a report, which does not get into the way of what gives mirrors up. */
static void a_store_that_ends_in_a_report_is_given_up_as_a_whole(void **state)
{
    (void)state;
    start_log(0);
    let_the_store_end();
    preempt_every(1, 1);
    for (unsigned i = 0; i < DATA; i++)
        assert_int_equal(dirty_log_withdraw(dom), -ENOMEM);
    preempt_at(0, false);
    assert_int_equal(dirty_log_stop(dom), 0);
    assert_int_equal(dom->arch.nr_mirror_frames, 0);
}

static unsigned nr_noted;
static int count_note(struct domain *d, mfn_t m)
{
    assert_false(mfn_eq(mirror_of(d, m), INVALID_MFN));
    nr_noted++;
    return 0;
}

static unsigned count_noted(unsigned give_way)
{
    int rc;

    nr_noted = 0;
    pt_lock(dom);
    do {
        preempt_every(give_way, give_way);
        rc = mirror_for_each_noted(dom, count_note);
        preempt_at(0, false);
    } while (rc == AGAIN);
    pt_unlock(dom);
    assert_int_equal(rc, 0);
    return nr_noted;
}

/* A report looks at tables alone in which something was permitted since the one before: none when the log begins, then what is written. */
static void a_report_looks_at_what_was_written_alone(void **state)
{
    struct dirty_report r = wanted(true, ROOM);

    (void)state;
    while (dirty_log_start(dom, ROOM) == AGAIN)
        ;
    assert_int_equal(count_noted(0), 0);
    assert_true(guest_writes(0) && guest_writes(1));
    assert_int_equal(count_noted(1), 1);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(count_noted(0), 0);
    /* An entry that is stored anew permits what is in the log at once. */
    assert_true(guest_writes(0));
    assert_int_equal(make_report(dom, &r), 0);
    assert_false(cpu_may_write(0));
    dirty_log_mark(dom, data[1]);
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, pte_make(data[1], RW), dom, 0), 0);
    pt_unlock(dom);
    assert_true(cpu_may_write(0));
    check();
    assert_int_equal(make_report(dom, &r), 0);
    assert_false(cpu_may_write(0));
}

static void set_entry(unsigned level, unsigned slot, u64 e)
{
    pt_lock(dom);
    assert_int_equal(level == 1 ? pt_update_leaf(dom, table[1], slot, e, dom, 0) : pt_update_node(dom, table[level], level, slot, e, 0), 0);
    pt_unlock(dom);
}

/* The way there is the guest's, too: what it does not permit is its own fault, whatever the log would have to say. */
static void a_way_that_permits_no_writes_is_the_guests(void **state)
{
    struct dirty_report r = wanted(true, ROOM);
    unsigned top = fmt->id == PT32P ? 2 : fmt->levels;

    (void)state;
    start_log(0);
    for (unsigned level = 1; level <= top; level++)
        /* (A 64-bit guest's entries are all for its user space, too.) */
        for (unsigned bit = 0; bit < (fmt->id == PT64 ? 1 : 2); bit++) {
            unsigned slot = level == fmt->levels ? top_slot() : level > 1;
            u64 lacks = bit ? PTE_US : PTE_RW, e = pte_make(level > 1 ? table[level - 1] : data[0], RW);

            set_entry(level, slot, e & ~lacks);
            assert_int_equal(make_report(dom, &r), 0);
            assert_false(mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(0), PF_WRITE | PF_PRESENT | PF_USER));
            set_entry(level, slot, e);
            assert_true(guest_writes(0));
        }
}

/* In domid order: d's own id comes first, whose walk is none. */
static struct domain *viewer;

struct domain *domain_get_next(u32 domid)
{
    return viewer && domid <= viewer->id ? domain_get_owner(domid <= dom->id ? dom->id : viewer->id) : NULL;
}

static void view(mfn_t m, unsigned i, u64 e)
{
    pt_lock(viewer);
    assert_int_equal(pt_update_leaf(viewer, m, i, e, e ? dom : viewer, 0), 0);
    pt_unlock(viewer);
    leave_hypervisor();
}

static mfn_t viewers_table(void)
{
    mfn_t m = frames_new(viewer);

    pt_lock(viewer);
    assert_int_equal(pt_get_table(viewer, m, 1), 0);
    pt_unlock(viewer);
    return m;
}

static void give_up_view(mfn_t m)
{
    pt_lock(viewer);
    assert_int_equal(pt_put_table(viewer, m), 0);
    pt_unlock(viewer);
    leave_hypervisor();
}

static void end_viewer(void)
{
    while (pt_relinquish(viewer))
        ;
    leave_hypervisor();
    mirror_free_domain(viewer);
    viewer = NULL;
}

/* It maps a page, or lets go of one, and writes to one of those that it has. */
static void viewer_writes(mfn_t m)
{
    unsigned i = (unsigned)random_below(DATA);
    bool has = load(m, i) & PTE_P;

    if (has)
        frame_words(data[i])[11]++;
    if (!random_below(2))
        view(m, i, has ? 0 : pte_make(data[i], RW));
}

#define RUNS 340     /* in each of three formats: 1,020 receivers that have what the sender has */

/* The receiver's copy: of what was reported, once the report has ended. Between two steps of it the guest goes on. */
static u64 copy[DATA][512];

static void send_round(unsigned give_way, bool guest_runs)
{
    struct dirty_report r = wanted(true, ROOM);
    int rc;

    r.final = !guest_runs;
    memset(bitmap, 0, sizeof(bitmap));
    do {
        preempt_at(give_way, true);
        rc = make_report(dom, &r);
        preempt_at(0, false);
        for (unsigned i = 0; guest_runs && i < 5; i++) {
            guest_changes();
            (void)guest_writes((unsigned)random_below(DATA));
        }
    } while (rc == AGAIN);
    check();
    assert_int_equal(rc, 0);
    for (unsigned i = 0; i < DATA; i++) {
        if (guest_runs && random_below(2))
            (void)guest_writes((unsigned)random_below(DATA));
        if (is_set(i))
            memcpy(copy[i], frame_words(data[i]), PAGE_SIZE);
    }
}

static void expect_equal_memory(void)
{
    for (unsigned i = 0; i < DATA; i++)
        assert_memory_equal(copy[i], frame_words(data[i]), PAGE_SIZE);
}

static void nothing_is_missed(void **state)
{
    mfn_t views;

    (void)state;
    viewer = frames_domain(2, fmt->id);
    views = viewers_table();
    for (unsigned run = 0; run < RUNS; run++) {
        start_log(run % 7);
        for (unsigned i = 0; i < DATA; i++)
            memcpy(copy[i], frame_words(data[i]), PAGE_SIZE);
        for (unsigned round = 0; round < 4; round++) {
            for (unsigned i = 0; i < 20; i++) {
                guest_changes();
                (void)guest_writes((unsigned)random_below(DATA));
                if (!random_below(4)) {
                    /* Somebody else, as a grant's holder: it lets go once it has written. */
                    mfn_t m = data[random_below(DATA)];

                    assert_int_equal(frame_get_writable(m, dom), 0);
                    frame_words(m)[9]++;
                    frame_put_writable(m);
                }
                viewer_writes(views);
            }
            send_round((run + round) % 5, true);
        }
        send_round(0, false);
        expect_equal_memory();
        while (dirty_log_stop(dom) == AGAIN)
            ;
        check();
    }
    give_up_view(views);
    end_viewer();
}

/* A report of fewer pages than a word of the log holds leaves the rest in it. */
static void what_is_not_asked_for_stays(void **state)
{
    struct dirty_report some = wanted(true, 3), all = wanted(true, ROOM);

    (void)state;
    start_log(0);
    assert_int_equal(make_report(dom, &all), 0);
    for (unsigned i = 0; i < 6; i++)
        dirty_log_mark(dom, data[i]);
    memset(bitmap, 0, sizeof(bitmap));
    assert_int_equal(make_report(dom, &some), 0);
    assert_int_equal(some.dirty, 3);
    assert_int_equal(bitmap[0], 7);
    assert_int_equal(make_report(dom, &all), 0);
    assert_int_equal(all.dirty, 3);
    assert_int_equal(bitmap[0], 7 << 3);
    assert_int_equal(end(0), 0);
}

/* Of how many numbers there is room for is the hypervisor's: a page behind the number that was said is logged, or always reported. */
static void a_log_ends_with_a_whole_word(void **state)
{
    struct dirty_report r = wanted(true, 128);
    u64 pfn = m2p_get(data[0]);

    (void)state;
    while (dirty_log_start(dom, 65) == AGAIN)
        ;
    assert_int_equal(make_report(dom, &r), 0);
    m2p_set(data[0], 100);
    dirty_log_mark(dom, data[0]);
    memset(bitmap, 0, sizeof(bitmap));
    assert_int_equal(make_report(dom, &r), 0);
    assert_true(is_set(100));
    m2p_set(data[0], pfn);
    assert_int_equal(end(0), 0);
}

/* Tables are reported when an entry changes, and when a frame becomes one, or none, or is pinned: its kind is sent with it. */
static void tables_are_reported(void **state)
{
    struct dirty_report r = wanted(true, ROOM);

    (void)state;
    start_log(0);
    pt_lock(dom);
    let_go_of_spare();
    pt_unlock(dom);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(r.dirty, 0);
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, pte_make(data[1], RO), dom, 0), 0);
    pt_unlock(dom);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(r.dirty, 1);
    assert_true(is_set((unsigned)m2p_get(table[1])));
    for (unsigned i = 0; i < 2; i++) {
        pt_lock(dom);
        assert_int_equal(i ? pt_unpin(dom, spare) : pt_pin(dom, spare, 1), 0);
        pt_unlock(dom);
        assert_int_equal(make_report(dom, &r), 0);
        assert_true(is_set((unsigned)m2p_get(spare)));
    }
}

static void expect_reported_alone(mfn_t m)
{
    struct dirty_report r = wanted(true, ROOM);

    assert_int_equal(make_report(dom, &r), 0);
    assert_true(is_set((unsigned)m2p_get(m)));
    assert_int_equal(r.dirty, 1);
}

static bool mends(const struct domain *d, void *page) { return d && ++*(u64 *)page; }
static bool mends_and_refuses(const struct domain *d, void *page) { return !mends(d, page); }

/* Frames become descriptor tables, which we mend and write in while nobody else can, and are none any more, between two reports. */
static void descriptor_tables_are_reported(void **state)
{
    struct dirty_report r = wanted(true, ROOM);
    mfn_t m = new_frame(DATA + nr_tables_made++);

    (void)state;
    start_log(0);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(frame_get_segdesc(dom, m, mends_and_refuses), -EINVAL);
    expect_reported_alone(m);
    assert_int_equal(frame_get_segdesc(dom, m, mends), 0);
    frame_put_segdesc(dom, m);
    expect_reported_alone(m);
}

static bool reports_end;

static void *take_again_and_again(void *log)
{
    while (!read_once(reports_end))
        (void)dirty_log_take(log, 0, 64, true);
    return NULL;
}

/* Reports take frames out of the log without the lock. A fault in between is mended all the same, or comes again: it is never the guest's. */
static void no_report_makes_a_fault_the_guests(void **state)
{
    u32 error = PF_WRITE | PF_PRESENT | (dom->arch.word == ABI_32 ? 0 : PF_USER);
    bool mended = true;
    pthread_t taker;

    (void)state;
    start_log(0);
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, pte_make(data[0], RW), dom, 0), 0);
    pt_unlock(dom);
    reports_end = false;
    assert_int_equal(pthread_create(&taker, NULL, take_again_and_again, dom->arch.log), 0);
    for (unsigned i = 0; mended && i < 300000; i++)
        mended = mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(0), error);
    write_once(reports_end, true);
    pthread_join(taker, NULL);
    assert_true(mended);
}

/* A frame of another's that the domain may write, as a backend's grant: no page of its own is dirty for it, whatever number the frame has there. */
static void writes_to_others_frames_mark_nothing(void **state)
{
    struct dirty_report r = wanted(true, ROOM);
    u32 error = PF_WRITE | PF_PRESENT | (dom->arch.word == ABI_32 ? 0 : PF_USER);
    struct domain *other = frames_domain(2, fmt->id);
    mfn_t m = frames_new(other);

    (void)state;
    m2p_set(m, 9);
    start_log(0);
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, pte_make(m, RW), other, 0), 0);
    pt_unlock(dom);
    assert_int_equal(make_report(dom, &r), 0);
    frame_words(mirror_of(dom, table[1]))[0] &= ~(u64)PTE_RW;
    assert_true(mirror_fault(&vcpu, vcpu.arch.root_kernel, address_of(0), error));
    assert_true(cpu_may_write(0));
    r = wanted(true, ROOM);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(r.dirty, 0);
    assert_true(cpu_may_write(0));
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 0, 0, dom, 0), 0);
    pt_unlock(dom);
    check();
    while (pt_relinquish(other))
        ;
}

static bool has_device;

struct pci_dev *pci_find_owned(u16 domid)
{
    static struct pci_dev device;

    return has_device && domid == dom->id ? &device : NULL;
}

/* So many pages are in a report, whose walk gives way at each place. */
static unsigned reported(bool final)
{
    struct dirty_report r = wanted(true, ROOM);
    int rc;

    r.final = final;
    do {
        preempt_at(1, true);
        rc = make_report(dom, &r);
    } while (rc == AGAIN);
    preempt_at(0, false);
    assert_int_equal(rc, 0);
    return (unsigned)r.dirty;
}

/*
 * The control domain's tools have pages of the domain mapped, and nobody says when they write: while they may, the last report has these,
 * and so has the first after they gave them up. A page that they only read is in none.
 */
static void the_last_report_has_what_is_mapped_by_others(void **state)
{
    mfn_t m[2];

    (void)state;
    viewer = frames_domain(2, fmt->id);
    for (unsigned i = 0; i < 2; i++)
        m[i] = viewers_table();
    view(m[0], 3, pte_make(data[3], RW));       /* before there is a log */
    view(m[0], 4, pte_make(data[4], RW & ~(u64)PTE_RW));
    assert_int_equal(viewer->arch.nr_outward, 1);
    start_log(0);
    (void)reported(false);
    view(m[1], 0, pte_make(data[5], RW));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(reported(false), 0);
        assert_int_equal(reported(true), 2);
        assert_true(is_set(3) && is_set(5));
    }
    view(m[1], 0, 0);
    assert_int_equal(reported(false), 1);
    assert_true(is_set(5));
    assert_int_equal(reported(true), 1);
    give_up_view(m[0]);
    assert_int_equal(reported(true), 1);
    assert_true(is_set(3));
    give_up_view(m[1]);
    assert_int_equal(viewer->arch.nr_outward, 0);
    assert_int_equal(reported(true), 0);
    end_viewer();
}

/* The look at one that has nothing mapped takes no longer than it may, either: there can be thousands. */
static void the_last_report_gives_way_between_domains(void **state)
{
    struct dirty_report r = wanted(true, ROOM);

    (void)state;
    viewer = frames_domain(2, fmt->id);
    start_log(0);
    r.final = true;
    preempt_at(1, true);
    assert_int_equal(make_report(dom, &r), AGAIN);
    assert_int_equal(dom->arch.log->viewer, dom->id + 1);
    assert_int_equal(make_report(dom, &r), AGAIN);
    assert_int_equal(dom->arch.log->viewer, viewer->id + 1);
    preempt_at(0, false);
    assert_int_equal(make_report(dom, &r), 0);
    end_viewer();
}

static void expect_busy(struct dirty_report r) { assert_int_equal(make_report(dom, &r), -EBUSY); }

static void reports(void **state)
{
    struct dirty_report r = wanted(false, ROOM);

    (void)state;
    assert_int_equal(make_report(dom, &r), -EINVAL);
    has_device = true;
    assert_int_equal(dirty_log_start(dom, ROOM), -EOPNOTSUPP);
    has_device = false;
    start_log(0);
    r.pages = MOST_PAGES + 1;
    assert_int_equal(make_report(dom, &r), -EINVAL);
    assert_int_equal(dirty_log_start(dom, ROOM), -EBUSY);
    r = wanted(true, ROOM);
    assert_int_equal(make_report(dom, &r), 0);
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, table[1], 5, pte_make(data[5], RW), dom, 0), 0);
    pt_unlock(dom);
    assert_true(guest_writes(5));
    /* A look changes nothing. */
    for (unsigned i = 0; i < 2; i++) {
        r = wanted(false, ROOM);
        assert_int_equal(make_report(dom, &r), 0);
        assert_int_equal(r.dirty, 2);       /* the page and the table */
        assert_true(is_set(5));
    }
    /* What could not be said is said the next time, with everything else. */
    r = wanted(true, ROOM);
    bitmap_fails = true;
    assert_int_equal(make_report(dom, &r), -EFAULT);
    bitmap_fails = false;
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(r.dirty, ROOM);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(r.dirty, 0);
    /* A report that gave way is gone on with by the same call alone. */
    preempt_at(1, true);
    assert_int_equal(make_report(dom, &r), AGAIN);
    preempt_at(0, false);
    expect_busy(wanted(false, ROOM));
    expect_busy(wanted(true, ROOM + 64));
    expect_busy(wanted(true, ROOM - 1));
    expect_busy((struct dirty_report){ .op = 11, .clean = true, .final = true, .bitmap = gva(PAGE_SIZE), .pages = ROOM });
    r = wanted(true, ROOM);
    assert_int_equal(make_report(dom, &r), 0);
    /* Only some bits are wanted, and no byte more is written. */
    memset(bitmap, 0xaa, sizeof(bitmap));
    r = wanted(true, 9);
    assert_int_equal(make_report(dom, &r), 0);
    assert_int_equal(bitmap[0], 0xaaaaaaaaaaaa0000UL);
}

/* What a grant lets others write while the domain stands still is in the last report, wherever the look at the grants gives way. */
static void the_last_report_has_what_others_may_write(void **state)
{
    struct dirty_report r = wanted(true, ROOM);
    int rc;

    (void)state;
    start_log(0);
    assert_int_equal(make_report(dom, &r), 0);
    has_grants = true;
    for (unsigned give_way = 1; give_way < GRANTED + 2; give_way++) {
        unsigned times = 0;

        r = wanted(true, ROOM);
        r.final = true;
        do {
            preempt_at(give_way, true);
            rc = make_report(dom, &r);
            times += rc == AGAIN;
        } while (rc == AGAIN);
        preempt_at(0, false);
        assert_int_equal(rc, 0);
        assert_true(times || give_way > GRANTED);
        assert_int_equal(r.dirty, GRANTED);
        for (unsigned i = 0; i < GRANTED; i++)
            assert_true(is_set(i));
    }
}

/* Whoever wants a log after an end that gave way gets one, and whoever found no memory is told so, wherever that gave way. */
static void an_end_that_gave_way_is_followed_by_a_beginning(void **state)
{
    (void)state;
    for (unsigned give_way = 1; give_way < 8; give_way++) {
        start_log(0);
        preempt_at(give_way, true);
        (void)dirty_log_stop(dom);
        start_log(give_way);
        assert_int_equal(nr_dirty_logs, 1);
        assert_int_equal(dom->arch.store, STORE_MIRRORED);
        while (dirty_log_stop(dom) == AGAIN)
            ;
        take_all();
        assert_int_equal(begin(give_way), -ENOMEM);
        assert_int_equal(dom->arch.store, STORE_IN_PLACE);
        give_back(~0u);
    }
}

/* Others may have its frames mapped for long after its end, and say that they wrote them. */
static void a_domain_that_dies_is_not_logged(void **state)
{
    struct xen_domctl op = { .u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY };

    (void)state;
    start_log(0);
    assert_int_equal(nr_dirty_logs, 1);
    dirty_log_end(dom);
    assert_int_equal(nr_dirty_logs, 0);
    dirty_log_free(dom);
    frame_log_dirty(data[1]);
    dom->dying = DOMAIN_DYING;
    assert_int_equal(dc_shadow_op(dom, &op, gva(0)), -EINVAL);
    dom->dying = DOMAIN_ALIVE;
}

/* --- For good ----------------------------------------------------------------------------------------------------- */

/* What a CPU with L1TF would read through: as arch/x86/cpu/spec.c has it for a domU. */
static void watch_absent_entries(void) { dom->arch.l1tf_span = fmt->pte_bytes == 8 ? (5UL << 32) - PAGE_SIZE : 0; }

static u64 exposing(void) { return pte_make(data[3], RO & ~PTE_P); }

static int store_exposing(void) { return pt_update_leaf(dom, table[1], 0, exposing(), dom, 0); }
static int compare_exposing(void) { return pt_compare_update_leaf(dom, table[1], 0, load(table[1], 0), exposing()); }
static int node_exposing(void) { return pt_update_node(dom, table[2], 2, 4, exposing(), 0); }

static int pin_exposing(void)
{
    int rc = pt_drain_orphans(dom);

    if (!rc && pt_own_level(dom, spare))
        return 0;
    if (!rc)
        put(spare, 9, exposing());
    return rc ? rc : pt_pin(dom, spare, 1);
}

/* A guest's request, which is made again and again, while its other vCPU goes on. */
static int insist_on(int (*request)(void), unsigned give_way)
{
    unsigned times = 0;
    int rc;

    do {
        preempt_at(give_way, true);
        pt_lock(dom);
        rc = request();
        pt_unlock(dom);
        pt_mirror_step(dom);
        preempt_at(0, false);
        if (waiting) {
            vcpu.is_running = times % 2;
            waiting->fn(waiting->data);
            waiting = vcpu.is_running ? waiting : NULL;
            vcpu.is_running = false;
        }
        if (rc)
            guest_changes();
        check();
        assert_true(times++ < 20000);
    } while (rc == AGAIN);
    return rc;
}

static void expect_mirrored_for_good(void)
{
    bool changes = fmt->pte_bytes == 8;

    assert_true(dom->arch.mirrored && dom->arch.mirror_walked);
    assert_int_equal(dom->arch.for_good, changes ? FOR_GOOD_TAKEN : FOR_GOOD_NOT);
    assert_int_equal(end(2), 0);
    assert_true(dom->arch.mirrored && dom->arch.mirror_walked);
    check();
}

static void take_exposing(int (*request)(void))
{
    watch_absent_entries();
    assert_int_equal(insist_on(request, (unsigned)random_below(30)), 0);
    expect_mirrored_for_good();
}

static void an_exposing_entry_is_walked_by_nobody(void **state)
{
    (void)state;
    take_exposing(store_exposing);
    assert_int_equal(load(table[1], 0), exposing());
    assert_int_equal(frame_words(mirror_of(dom, table[1]))[0], 0);
    take_exposing(node_exposing);
    take_exposing(compare_exposing);
    take_exposing(pin_exposing);
}

static void a_table_with_an_exposing_entry(void **state)
{
    (void)state;
    pt_lock(dom);
    if (pt_own_level(dom, spare))
        (void)pt_unpin(dom, spare);
    domain_flush_stale(dom);
    pt_unlock(dom);
    take_exposing(pin_exposing);
    assert_int_equal(load(spare, 9), exposing());
}

static void an_exposing_node(void **state) { (void)state; take_exposing(node_exposing); }
static void an_exposing_entry_by_exchange(void **state) { (void)state; take_exposing(compare_exposing); }

/* While it is logged it is mirrored already; later it stays so. And one that stays so can be logged. */
static void an_exposing_entry_and_the_log(void **state)
{
    struct dirty_report r = wanted(true, ROOM);

    (void)state;
    watch_absent_entries();
    for (unsigned i = 0; i < 2; i++) {
        start_log(2);
        assert_int_equal(insist_on(store_exposing, 0), 0);
        while (make_report(dom, &r))
            ;
        for (unsigned page = 0; page < DATA; page++)
            assert_false(cpu_may_write(page));
        while (dirty_log_stop(dom) == AGAIN)
            ;
        expect_mirrored_for_good();
        for (unsigned page = 0; page < DATA; page++)
            (void)guest_writes(page);
    }
}

/* The change is the guest's own until the end; then somebody wants the log before the guest asks once more. */
static void a_log_of_what_has_just_been_mirrored(void **state)
{
    (void)state;
    watch_absent_entries();
    pt_lock(dom);
    (void)store_exposing();
    pt_unlock(dom);
    while (dom->arch.for_good == FOR_GOOD_WANTED && dom->arch.store != STORE_READY)
        pt_mirror_step(dom);
    if (waiting)
        waiting->fn(waiting->data);
    for (unsigned page = 0; page < DATA; page++)
        (void)guest_writes(page);
    start_log(0);
    for (unsigned page = 0; page < DATA; page++) {
        mfn_t m = pte_mfn(load(table[1], page));

        assert_true(!cpu_may_write(page) || dirty_log_has(dom, m));
    }
}

/* The guest may have begun to fill mirrors, or be done with it, when somebody wants the log: what they permit then is in no log. */
static void a_log_of_what_is_being_mirrored(void **state)
{
    (void)state;
    watch_absent_entries();
    for (unsigned is_filled = 0; is_filled < 2; is_filled++) {
        pt_lock(dom);
        assert_int_equal(store_exposing(), AGAIN);
        pt_unlock(dom);
        preempt_every(1, 1);
        while (dom->arch.store != STORE_READY && (is_filled || dom->arch.store != STORE_FILLING || dom->arch.store_at <= table[1].v))
            pt_mirror_step(dom);
        preempt_at(0, false);
        assert_int_equal(dom->arch.store, is_filled ? STORE_READY : STORE_FILLING);
        while (dirty_log_start(dom, ROOM) == AGAIN)
            ;
        for (unsigned page = 0; page < DATA; page++)
            assert_true(!cpu_may_write(page) || dirty_log_has(dom, pte_mfn(load(table[1], page))));
        check();
        dom->arch.for_good = FOR_GOOD_NOT;      /* it has changed its format, say */
        while (dirty_log_stop(dom) == AGAIN)
            ;
        if (waiting)
            waiting->fn(waiting->data);
        waiting = NULL;
    }
}

/* Nor does a report know what was written between an end for want of memory and a beginning by the guest. */
static void a_log_does_not_outlive_its_mirrors(void **state)
{
    struct dirty_report r = wanted(true, ROOM);

    (void)state;
    watch_absent_entries();
    start_log(0);
    let_the_store_end();
    for (unsigned page = 0; page < DATA; page++)
        (void)guest_writes(page);
    assert_int_equal(insist_on(store_exposing, 0), 0);
    assert_int_equal(dom->arch.store, STORE_MIRRORED);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(make_report(dom, &r), -ENOMEM);
    while (dirty_log_stop(dom) == AGAIN)
        ;
    start_log(0);
    while (make_report(dom, &r))
        ;
}

/* The guest changes its format, under the lock, when its controller has just seen that its entries have 8 bytes. */
static void become_non_pae(spinlock_t *l)
{
    if (l == &dom->arch.pt_lock)
        dom->arch.fmt = &pt_formats[PT32];
}

static void a_format_that_has_just_changed(void **state)
{
    const struct pt_format *was = dom->arch.fmt;

    (void)state;
    on_lock = become_non_pae;
    assert_int_equal(pt_mirror_begin(dom), 0);
    on_lock = NULL;
    assert_int_equal(dom->arch.store, STORE_IN_PLACE);
    assert_false(dom->arch.mirrored);
    dom->arch.fmt = was;
}

static void an_exposing_entry_without_memory_is_refused(void **state)
{
    (void)state;
    watch_absent_entries();
    take_all();
    assert_int_equal(insist_on(store_exposing, 0), -EINVAL);
    assert_false(dom->arch.mirrored || dom->arch.mirror_walked);
    assert_int_not_equal(load(table[1], 0), exposing());
    give_back(~0u);
    assert_int_equal(insist_on(store_exposing, 0), -EINVAL);
    assert_int_equal(begin(0), 0);      /* of memory that the guest lacked its controller is not told */
    assert_int_equal(end(0), 0);
}

/* It cannot go back: the table that is one too many is refused. */
static void mirrored_for_good_there_may_be_no_more_tables(void **state)
{
    (void)state;
    take_exposing(store_exposing);
    pt_lock(dom);
    let_go_of_spare();
    domain_flush_stale(dom);
    take_all();
    assert_int_equal(pt_pin(dom, spare, 1), -ENOMEM);
    pt_unlock(dom);
    give_back(~0u);
    assert_int_equal(paused, 0);
    expect_mirrored_for_good();
}

/* It may never ask for its entry again, but begin what the entry needs whenever an end of that gives way. */
static void a_guest_that_insists_holds_up_no_end(void **state)
{
    unsigned times = 0;
    int rc;

    (void)state;
    watch_absent_entries();
    pt_lock(dom);
    assert_int_equal(store_exposing(), AGAIN);
    pt_unlock(dom);
    do {
        preempt_at(1, true);
        while (dom->arch.store == STORE_ENDING || dom->arch.store == STORE_IN_PLACE)
            pt_mirror_step(dom);
        rc = pt_mirror_end(dom);
        preempt_at(0, false);
        assert_true(times++ < 100);
    } while (rc == AGAIN);
    assert_int_equal(rc, 0);
    assert_int_equal(insist_on(store_exposing, 3), 0);
    expect_mirrored_for_good();
}

/* A guest that wanted that before it changed its format. */
static void what_is_always_mirrored_begins_nothing(void **state)
{
    (void)state;
    dom->arch.for_good = FOR_GOOD_WANTED;
    for (unsigned i = 0; i < 10; i++)
        pt_mirror_step(dom);
    assert_int_equal(dom->arch.store, STORE_IN_PLACE);
    assert_int_equal(paused, 0);
    check();
}

/* A change to the non-PAE format that was refused leaves no room for mirrors that is as short as that reaches. */
static void room_for_mirrors_is_the_formats(void **state)
{
    struct domain *d = frames_domain(2, PT32);

    (void)state;
    d->arch.fmt = &pt_formats[PT32P];
    d->arch.mirrored = d->arch.mirror_walked = false;
    assert_int_equal(mirror_init_domain(d), 0);
    assert_null(d->arch.mirror);
    d->arch.mirrored = true;
    assert_int_equal(mirror_init_domain(d), 0);
    assert_int_equal(d->arch.mirror_rows, (nr_frames + 1023) >> 10);
    mirror_free_domain(d);
}

#define IN(setup, test) { #test " (" #setup ")", test, setup, teardown, NULL }
#define IN_BOTH(test) IN(setup_64, test), IN(setup_pae, test)
#define IN_ALL(test) IN_BOTH(test), IN(setup_32, test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ALL(changes_to_and_fro),
        IN_BOTH(the_cpu_walks_mirrors_alone),
        IN(setup_64, linear_entries_show_the_guests_tables),
        IN_BOTH(bits_set_meanwhile_are_kept),
        IN_ALL(what_is_not_permitted_faults_as_present),
        IN(setup_64, an_entry_that_comes_late_ends_copies_of_the_root),
        IN_ALL(no_report_makes_a_fault_the_guests),
        IN(setup_64, our_slots_are_never_the_guests),
        IN_BOTH(a_frame_that_comes_meanwhile_is_no_table),
        IN_BOTH(the_highest_count_keeps_no_table_back),
        IN_BOTH(a_mirror_that_cannot_be_had_ends_the_change),
        IN_BOTH(a_mirror_that_is_missing_later_ends_it_too),
        IN_BOTH(a_store_that_ends_in_a_report_is_given_up_as_a_whole),
        IN_ALL(nothing_is_missed),
        IN_ALL(what_is_not_asked_for_stays),
        IN_ALL(a_report_looks_at_what_was_written_alone),
        IN_ALL(a_way_that_permits_no_writes_is_the_guests),
        IN_ALL(a_log_ends_with_a_whole_word),
        IN_ALL(tables_are_reported),
        IN_ALL(descriptor_tables_are_reported),
        IN_ALL(reports),
        IN_ALL(writes_to_others_frames_mark_nothing),
        IN_ALL(the_last_report_has_what_is_mapped_by_others),
        IN_ALL(the_last_report_gives_way_between_domains),
        IN_ALL(the_last_report_has_what_others_may_write),
        IN_BOTH(an_end_that_gave_way_is_followed_by_a_beginning),
        IN_ALL(a_domain_that_dies_is_not_logged),
        IN_ALL(an_exposing_entry_is_walked_by_nobody),
        IN_ALL(a_table_with_an_exposing_entry),
        IN_ALL(an_exposing_node),
        IN_ALL(an_exposing_entry_by_exchange),
        IN_ALL(an_exposing_entry_and_the_log),
        IN_ALL(a_log_of_what_has_just_been_mirrored),
        IN_BOTH(a_log_of_what_is_being_mirrored),
        IN_BOTH(a_log_does_not_outlive_its_mirrors),
        IN(setup_pae, a_format_that_has_just_changed),
        IN_BOTH(an_exposing_entry_without_memory_is_refused),
        IN_BOTH(mirrored_for_good_there_may_be_no_more_tables),
        IN_BOTH(a_guest_that_insists_holds_up_no_end),
        IN(setup_pae, room_for_mirrors_is_the_formats),
        IN(setup_32, what_is_always_mirrored_begins_nothing),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
