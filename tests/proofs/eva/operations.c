/* The entry points of the core, each with any arguments that its callers may pass. */
#include <asm/pt.h>
#include <asm/pv.h>
#include <public/grant_table.h>
#include <pvisor/domain.h>
#include <pvisor/gnttab.h>
#include "machine.h"
#include "arch/x86/pt/internal.h"

/* Defines what begins in any state of a machine whose guests have this format or that. Its end must be there to be reached. */
#define OPERATION(name)                                                                          \
    static void name(void);                                                                      \
    void name##_pt64(void) { any_machine(PT64, false); name(); Frama_C_show_each_end(); }        \
    void name##_pt32p(void) { any_machine(PT32P, false); name(); Frama_C_show_each_end(); }      \
    void name##_pt32(void) { any_machine(PT32, true); name(); Frama_C_show_each_end(); }         \
    void name##_pt64_mirrored(void) { any_machine(PT64, true); name(); Frama_C_show_each_end(); }        \
    void name##_pt32p_mirrored(void) { any_machine(PT32P, true); name(); Frama_C_show_each_end(); }      \
    static void name(void)

/*
 * In either case: what decides about other variables is better looked at by itself. All numbers from a frame's to INVALID_MFN's would be
 * more than the two.
 */
#define EITHER(one, two, ...) do {      \
    if (any_bool()) {                   \
        one;                            \
        __VA_ARGS__;                    \
    } else {                            \
        two;                            \
        __VA_ARGS__;                    \
    } } while (0)
#define FOR_ANY_MFN(m, ...) do { mfn_t m; EITHER(m = any_frame(), m = INVALID_MFN, __VA_ARGS__); } while (0)
#define WITH_ANY_ROOTS(...)                                                             \
    EITHER(vcpu.arch.root_kernel = any_table(), vcpu.arch.root_kernel = INVALID_MFN,    \
           EITHER(vcpu.arch.root_user = any_table(), vcpu.arch.root_user = INVALID_MFN, __VA_ARGS__))
#define WITH_ANY_KNOWN(...)                                                                      \
    EITHER(pt_know_l1(&dom, any_table()), dom.arch.known_l1 = dom.arch.known_mirrored_l1 = no_known_table, __VA_ARGS__)

static unsigned any_level(void) { return any_u32(1, dom.arch.fmt->levels); }
static const struct domain *any_owner(void) { return any_of(&dom, &other); }

/* The entry of a level-1 table that is d's: whole, and in the page. */
static unsigned any_index(void) { return any_u32(0, 4096 / dom.arch.fmt->pte_bytes - 1); }

/* --- Tables: table.c, and below it get_node() and put_node() --- */

OPERATION(get) { FOR_ANY_MFN(m, (void)get_table(&dom, m, any_level(), any_of(FW_HV, 0))); }
OPERATION(put) { (void)pt_put_table(&dom, any_table()); }
OPERATION(pin) { FOR_ANY_MFN(m, (void)pt_pin(&dom, m, any_level())); }
OPERATION(unpin) { FOR_ANY_MFN(m, (void)pt_unpin(&dom, m)); }
OPERATION(drain) { (void)pt_drain_orphans(&dom); }

OPERATION(relinquish)
{
    dom.arch.relinquish_at = any_u64(0, NR_FRAMES);
    (void)pt_relinquish(&dom);
}

/* --- Changes of entries: entry.c, quick.c --- */

OPERATION(update_leaf)
{
    (void)pt_update_leaf(&dom, any_table(), any_index(), guests_entry(), any_owner(), any_of(PT_PRESERVE_AD, 0));
}

OPERATION(update_node)
{
    (void)pt_update_node(&dom, any_table(), any_u32(2, dom.arch.fmt->levels), guests_u32(), guests_entry(), any_of(PT_PRESERVE_AD, 0));
}

OPERATION(compare_update_leaf) { (void)pt_compare_update_leaf(&dom, any_table(), any_index(), guests_entry(), guests_entry()); }
OPERATION(update_va) { WITH_ANY_ROOTS((void)pt_update_va(&vcpu, guests_u64(), guests_u64(), any_owner())); }

static void update_known_one(void)
{
    u64 *p;
    u32 *q;

    if (pt_in_known_l1(&dom, guests_u64() & ~7UL, &p))
        (void)(any_bool() ? pt_update_known(&dom, p, guests_u64()) : pt_update_known_ad(&dom, p, guests_u64()));
    else if (pt_in_known_mirrored_l1(&dom, guests_u64() & ~3UL, &q))
        (void)pt_update_known_mirrored(&dom, q, guests_u32());
}

OPERATION(update_known) { WITH_ANY_KNOWN(update_known_one()); }

/* Writes to tables that fault: the callers have seen that the address is aligned. */
static void write_va_one(void)
{
    u64 was;
    u32 was_32;

    if (dom.arch.word == ABI_64)
        (void)pt_write_va(&vcpu, guests_u64() & ~7UL, guests_u64(), any_bool(), &was);
    else if (dom.arch.mirrored)
        (void)pt_write_va_mirrored(&vcpu, guests_u64() & ~3UL, guests_u32(), &was_32);
    else
        (void)pt_compare_write_va_pae(&vcpu, guests_u64() & ~7UL, guests_u64(), guests_u64(), &was);
}

OPERATION(write_va) { WITH_ANY_KNOWN(WITH_ANY_ROOTS(write_va_one())); }

static void walk_one(void)
{
    mfn_t m;
    unsigned idx;

    if (pt_find_l1(&vcpu, guests_u64(), &m, &idx))
        (void)pt_load(dom.arch.fmt, mfn_to_virt(m), idx);
    pt_walk_dump(&vcpu, guests_u64());
}

OPERATION(walks) { WITH_ANY_ROOTS(walk_one()); }
OPERATION(level_of_own) { (void)pt_own_level(&dom, any_table()); }

/* --- Grants: grant.c --- */

/* What pv_grant_begin() may leave: the address's table, or that there is none. */
OPERATION(grant_begin)
{
    struct pv_grant_walk walk;

    WITH_ANY_ROOTS(pv_grant_begin(&walk, guests_u64()));
    pv_grant_end();
    pv_grant_flush(&dom);
}

static void found_table(struct pv_grant_walk *walk)
{
    walk->pte_flags = guests_u64();
    walk->region = any_u64(0, ~0UL >> 21);
    walk->table = any_table();
    walk->plain = dom.arch.mirrored ? NULL : mfn_to_virt(walk->table);
}

static void found_none(struct pv_grant_walk *walk)
{
    walk->pte_flags = guests_u64();
    walk->region = ~0UL;
}

#define WITH_ANY_WALK(...) do {                                                                 \
    struct pv_grant_walk walk;                                                                  \
    WITH_ANY_ROOTS(EITHER(found_table(&walk), found_none(&walk), __VA_ARGS__)); } while (0)

OPERATION(grant_map) { WITH_ANY_WALK((void)pv_grant_map(&walk, guests_u64(), any_frame(), guests_u32())); }
OPERATION(grant_unmap) { WITH_ANY_WALK((void)pv_grant_unmap(&walk, guests_u64(), any_frame(), guests_u64(), guests_u32())); }

/* --- Mirrors: mirror.c --- */

OPERATION(mirror)
{
    if (mirror_init_domain(&dom))
        return;
    if (dom.arch.mirrored) {
        (void)mirror_alloc(&dom, any_frame(), any_level());
        mirror_free(&dom, any_frame(), any_level());
        (void)mirror_wanted(&dom, any_frame(), any_level());
        mirror_free_dead(mirror_take_dead(&dom));
    }
    mirror_free_domain(&dom);
}

OPERATION(mirror_vcpu)
{
    (void)mirror_init_vcpu(&vcpu);
    mirror_clear_root(&vcpu);
    mirror_free_vcpu(&vcpu);
}

OPERATION(mirror_fault_of_guest)
{
    if (dom.arch.mirrored)
        WITH_ANY_ROOTS((void)mirror_fault(&vcpu, vcpu.arch.root_kernel, any_u64(0, dom.arch.fmt->hv_start - 1), guests_u32()));
}

OPERATION(mirror_root)
{
    vcpu.arch.root_kernel = any_table();
    if (dom.arch.word == ABI_32)
        mirror_set_root(&vcpu);
}

/* --- The store: store.c --- */

static void being_given_up(void)
{
    if (dom.arch.fmt->pte_bytes == 8 && dom.arch.mirrored) {
        dom.arch.mirrored = dom.arch.mirror_walked = false;
        dom.arch.store = STORE_ENDING;
    }
}

OPERATION(store_begin) { EITHER((void)0, being_given_up(), (void)pt_mirror_begin(&dom)); }
OPERATION(store_end) { EITHER((void)0, being_given_up(), (void)pt_mirror_end(&dom)); }

OPERATION(store_for_good)
{
    pt_mirror_step(&dom);
    (void)mirror_wanted_for_good(&dom);
}

/* What waits until all vCPUs rest. */
OPERATION(store_rests)
{
    pt_store_init(&dom);
    dom.arch.store_rest.fn(dom.arch.store_rest.data);
}

/* --- The log of writes: dirty.c --- */

static void no_log(void)
{
    dom.arch.log = NULL;
    dom.arch.logging = dom.arch.log_ready = false;
}

/* Its caller bounds what it asks for by the machine's and the domain's memory: here by less. */
OPERATION(log_start) { EITHER((void)0, no_log(), (void)dirty_log_start(&dom, any_u64(0, MAX_LOGGED))); }
OPERATION(log_stop) { EITHER((void)0, no_log(), (void)dirty_log_stop(&dom)); }

OPERATION(log_end)
{
    dirty_log_end(&dom);
    dirty_log_free(&dom);
}

OPERATION(log_report)
{
    (void)dirty_log_take(dom.arch.log, guests_u64(), 1 + guests_u64() % 64, any_bool());
    (void)dirty_log_withdraw(&dom);
    dirty_log_mark_vcpus(&dom);
}

OPERATION(log_viewed) { (void)dirty_log_mark_viewed(&dom); }

OPERATION(log_marks) { frame_log_dirty(any_frame()); }

/* --- Frames: frame.c --- */

static bool any_check(const struct domain *d, void *page) { return any_bool(); }

static void use(mfn_t m)
{
    bool pinned;

    (void)frame_owner_id(m);
    if (frame_get(m, any_owner())) {
        (void)frame_type_get(m, &pinned);
        (void)frame_held(m);
        frame_put(m);
    }
    if (!frame_get_writable(m, any_owner()))
        frame_put_writable(m);
    if (!frame_get_segdesc(&dom, m, any_check))
        frame_put_segdesc(&dom, m);
    m2p_set(m, guests_u64());
    (void)m2p_get(m);
}

OPERATION(references)
{
    FOR_ANY_MFN(m, use(m));
    frame_put_foreign(&dom, any_frame(), any_bool());
}

static void take_back(mfn_t m)
{
    (void)domain_release_frame(&dom, m);
    (void)domain_give_up_frame(&dom, m);
    if (domain_withdraw_frame(&dom, m)) {
        if (any_bool())
            domain_return_frames(&dom, m, 1);
        else
            domain_free_withdrawn(&dom, m);
    }
}

OPERATION(frames)
{
    (void)domain_alloc_frames(&dom, any_u32(0, 4), any_u32(0, ~0u));
    (void)domain_alloc_shared_frame(&dom);
    show_frames(mfn_kept(any_u64(0, NR_FRAMES - 8)), any_u32(0, 3), any_bool());    /* a block of the heap's */
    FOR_ANY_MFN(m, take_back(m));
    (void)frame_accounts_hold(&dom);
    (void)frames_drain_due();
    frames_drain_pending();
}
