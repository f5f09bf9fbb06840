/* What is done to the machine: by guests through their hypercalls, by the control domain, by the CPU. */
#include <stdio.h>

#include <asm/pv.h>
#include <public/errno.h>
#include <public/grant_table.h>
#include <public/xen.h>
#include <pvisor/abi.h>
#include <pvisor/gnttab.h>
#include "explore.h"

/* --- Hypercalls ---------------------------------------------------------------------------------------------------------------------- */

static struct { hypercall_fn *fn; u64 arg[6]; } call;
static struct op last;

s64 hypercall_restart(unsigned nr, ...)
{
    va_list args;

    va_start(args, nr);
    for (unsigned i = 0; i < nr; i++)
        call.arg[i] = va_arg(args, u64);
    va_end(args);
    return -ERESTART_HYPERCALL;
}

static s64 call_again(void) { return call.fn(call.arg[0], call.arg[1], call.arg[2], call.arg[3], call.arg[4], call.arg[5]); }

static s64 make_call(hypercall_fn *fn, u64 a0, u64 a1, u64 a2, u64 a3)
{
    call.fn = fn;
    call.arg[0] = a0;
    call.arg[1] = a1;
    call.arg[2] = a2;
    call.arg[3] = a3;
    return call_again();
}

static s64 mmu_update(mfn_t m, unsigned idx, unsigned command, u64 e, u64 foreign)
{
    static u64 request[2];

    request[0] = mfn_to_maddr(m).v | idx * fmt->pte_bytes | command;
    request[1] = e;
    return make_call(do_mmu_update, (u64)request, 1, 0, foreign);
}

static s64 mmuext(u32 cmd, u64 arg)
{
    static u64 request[8];
    const struct mmuext_op op = { .cmd = cmd, .arg1 = arg };

    BUG_ON(!abi_encode(current->domain->arch.word, &mmuext_op_desc, request, &op));
    return make_call(do_mmuext_op, (u64)request, 1, 0, DOMID_SELF);
}

/* --- Arguments ---------------------------------------------------------------------------------------------------------------------- */

static u64 value_of(struct op op)
{
    static const u64 flags[NR_VALUES] = {
        [RO] = PTE_P | PTE_US | PTE_A, [RW] = PTE_P | PTE_US | PTE_RW | PTE_A | PTE_D, [CLEAN] = PTE_P | PTE_US | PTE_RW | PTE_A,
        [BAD] = PTE_P | PTE_US | PTE_PS | PTE_PCD, [ABSENT] = PTE_US,
    };
    u64 m = op.which == VALUE_HOLE ? HYP_MFN : op.which == VALUE_DEVICE ? DEVICE_MFN : op.which == VALUE_BEYOND ? 0xfffff :
            FRAME_FIRST + op.which;

    u64 e = m << PAGE_SHIFT | flags[op.value];

    if (op.value == RO && size->kinds & KIND(ACCESS))
        e &= ~PTE_A;
    return op.value == NONE ? 0 : e;
}

static unsigned index_of(unsigned slot) { return slot == SLOT_HV ? fmt->hv_first : slot_index[slot]; }

/* path: which slot of each level's table, a bit for each. */
static u64 address_of(struct op op)
{
    u64 va = 0;

    for (unsigned level = 1; level <= fmt->levels; level++)
        va |= (u64)slot_index[op.path >> (level - 1) & 1] << fmt->level[level].shift;
    return fmt->levels == 4 && va >> 47 ? va | ~0UL << 48 : va;
}

/* --- Each operation ------------------------------------------------------------------------------------------------------------------ */

static s64 emulate(struct domain *d, struct op op)
{
    unsigned idx = slot_index[op.slot];
    u64 old = entry_at(op.frame, idx);
    int rc;

    pt_lock(d);
    rc = pt_compare_update_leaf(d, frame_mfn(op.frame), idx, op.kind == EMULATE ? old : old ^ 1UL << 9, value_of(op));
    pt_unlock(d);
    return rc;
}

/* mmu_update by another vCPU, which found nothing left over before it took the lock, while an interrupted call has left something since. */
static s64 write_late(struct domain *d, struct op op)
{
    mfn_t m = frame_mfn(op.frame);
    int rc;

    pt_lock(d);
    BUG_ON(!frame_get(m, d));
    rc = pt_update_node(d, m, complete_level(op.frame), slot_index[op.slot], value_of(op), 0);
    frame_put(m);
    pt_unlock(d);
    return rc;
}

/* level: whether the instruction compares, for PAE whether it finds what it expects. */
static s64 write_va(struct vcpu *v, struct op op)
{
    u64 va = address_of(op) + slot_index[op.slot] * fmt->pte_bytes, was = 0;
    u32 was_short;
    int rc;

    pt_lock(v->domain);
    if (fmt->id == PT64) {
        rc = pt_write_va(v, va, value_of(op), op.level, &was);
    } else if (fmt->id == PT32) {
        rc = pt_write_va_mirrored(v, va, (u32)value_of(op), &was_short);
    } else {
        rc = pt_compare_write_va_pae(v, va, ~0UL, value_of(op), &was);
        if (!rc && op.level)
            rc = pt_compare_write_va_pae(v, va, was, value_of(op), &was);
    }
    pt_unlock(v->domain);
    return rc;
}

/* The CPU reads, or writes if level says so, by an entry. */
static s64 access_by(struct vcpu *v, struct op op)
{
    u64 *e = (u64 *)mfn_to_virt(frame_mfn(op.frame)) + slot_index[op.slot];

    if (v->domain->arch.mirror_walked)
        return mirror_fault(v, v->arch.root_kernel, address_of(op), PF_USER | (op.level ? PF_WRITE : 0)) ? 0 : -EFAULT;
    *e |= PTE_A | (op.level ? PTE_D : 0);
    return 0;
}

static bool any_page(const struct domain *d, void *page) { return desc_check_page(d, page); }

void pv_destroy_gdt(struct vcpu *v)
{
    if (!v->arch.gdt_entries)
        return;
    v->arch.gdt_entries = 0;
    v->arch.perdomain_l1[0] = 0;
    frame_put_segdesc(v->domain, v->arch.gdt_frames[0]);
    v->arch.gdt_frames[0] = INVALID_MFN;
}

static s64 set_gdt(struct vcpu *v, mfn_t m)
{
    int rc;

    pt_lock(v->domain);
    rc = frame_get_segdesc(v->domain, m, any_page);
    if (!rc) {
        pv_destroy_gdt(v);
        v->arch.gdt_frames[0] = m;
        v->arch.gdt_entries = 512;
        v->arch.perdomain_l1[0] = pte_make(m, PTE_P | PTE_RW | PTE_A | PTE_D);
    }
    pt_unlock(v->domain);
    return rc;
}

static s64 set_info(struct vcpu *v, mfn_t m)
{
    if (!mfn_eq(v->info_mfn, INVALID_MFN)) {
        frame_put_writable(v->info_mfn);
        v->info_mfn = INVALID_MFN;
        return 0;
    }
    if (frame_get_writable(m, v->domain))
        return -EINVAL;
    v->info_mfn = m;
    return 0;
}

static s64 withdraw(struct domain *d, struct op op)
{
    mfn_t m = frame_mfn(op.frame);

    if (!domain_withdraw_frame(d, m))
        return -EINVAL;
    if (op.level)
        domain_free_withdrawn(d, m);
    else
        domain_return_frame(d, m);
    return 0;
}

/* The grant's references, which common/grant takes for an entry and drops after its end. */
static int grant_hold(mfn_t m, bool writable)
{
    struct domain *owner = domain_get_owner(frame_owner_id(m));
    int rc;

    if (!owner)
        return -EINVAL;
    rc = writable ? frame_get_writable(m, owner) : frame_get(m, owner) ? 0 : -EINVAL;
    domain_put(owner);
    return rc;
}

static void grant_drop(mfn_t m, bool writable)
{
    if (writable)
        frame_put_writable(m);
    else
        frame_put(m);
}

static s64 grant(struct domain *d, struct op op)
{
    mfn_t m = frame_mfn(op.which);
    bool writable = op.value == RW;
    u32 flags = GNTMAP_host_map | GNTMAP_contains_pte | (writable ? 0 : GNTMAP_readonly);
    u64 at = mfn_to_maddr(frame_mfn(op.frame)).v + slot_index[op.slot] * fmt->pte_bytes;
    struct pv_grant_walk walk;
    int rc;

    if (op.kind == GRANT_MAP && grant_hold(m, writable))
        return -EINVAL;
    pv_grant_begin(&walk, at);
    rc = op.kind == GRANT_MAP ? pv_grant_map(&walk, at, m, flags) : pv_grant_unmap(&walk, at, m, 0, flags);
    pv_grant_end();
    if (op.kind == GRANT_UNMAP && !rc)
        pv_grant_flush(d);
    if ((op.kind == GRANT_MAP) == (rc != 0))
        grant_drop(m, writable);
    return rc ? -EINVAL : 0;
}

/* As arch_domain_relinquish(): what vCPUs hold, then each frame. */
static int drop_vcpu(struct domain *d, struct vcpu *v)
{
    mfn_t roots[] = { v->arch.root_kernel, v->arch.root_user };
    int rc = pt_drain_orphans(d);

    if (rc)
        return rc;
    pv_destroy_gdt(v);
    mirror_clear_root(v);
    v->arch.root_kernel = v->arch.root_user = INVALID_MFN;
    for (unsigned i = 0; i < 2; i++)
        if (!mfn_eq(roots[i], INVALID_MFN) && pt_put_table(d, roots[i]))
            rc = -ERESTART_HYPERCALL;
    pv_make_cr3(v);
    return rc;
}

static s64 teardown(struct domain *d)
{
    int rc;

    d->dying = DOMAIN_DYING;
    if (!mfn_eq(d->vcpu[0]->info_mfn, INVALID_MFN))
        (void)set_info(d->vcpu[0], INVALID_MFN);
    pt_lock(d);
    rc = drop_vcpu(d, d->vcpu[0]);
    pt_unlock(d);
    if (!rc)
        rc = pt_relinquish(d);
    if (!rc)
        d->dying = DOMAIN_DEAD;
    return rc;
}

/* What the guest wants, too, the end leaves as it is. */
static bool is_done(const struct domain *d, int (*change)(struct domain *d))
{
    if (change == pt_mirror_begin || d->arch.for_good == FOR_GOOD_TAKEN)
        return d->arch.store == STORE_MIRRORED;
    return d->arch.store == STORE_IN_PLACE || d->arch.for_good == FOR_GOOD_WANTED;
}

/* As its controller calls again until it is done, at once unless it was asked to give way. */
static s64 change_store(struct domain *d, int (*change)(struct domain *d))
{
    int rc;

    do
        rc = change(d);
    while (rc == -ERESTART_HYPERCALL && !(decisions & ((1UL << nr_decisions) - 1)));
    if (!rc && !is_done(d, change))
        failed("a change of the store is done, as it says, and is not");
    return rc;
}

/* The nth order. */
static void permutation(unsigned nth, u8 to[FRAMES_MAX])
{
    u8 left[FRAMES_MAX];

    for (unsigned n = 0; n < nr_all; n++)
        left[n] = (u8)n;
    for (unsigned n = 0; n < nr_all; n++) {
        unsigned among = nr_all - n, at = nth % among;

        nth /= among;
        to[n] = left[at];
        memmove(&left[at], &left[at + 1], among - at - 1);
    }
}

bool op_renames(struct op op) { return KIND(op.kind) & WALKS && op.path; }

void op_prepare(struct op op, u8 to[FRAMES_MAX])
{
    permutation(op_renames(op) ? op.path : 0, to);
    if (op_renames(op))
        rename_frames(to);
}

s64 op_run(struct op op)
{
    struct domain *d = &guests.d[op.domain];
    struct vcpu *v = d->vcpu[0];
    mfn_t m = frame_mfn(op.frame);
    u64 e = value_of(op);

    last = op;
    cpu_info()->current_vcpu = KIND(op.kind) & (WALKS | KIND(REST)) ? guests.d[!op.domain].vcpu[0] : v;
    switch ((enum kind)op.kind) {
    case WRITE:        return mmu_update(m, index_of(op.slot), MMU_NORMAL_PT_UPDATE, e, DOMID_SELF);
    case WRITE_AD:     return mmu_update(m, index_of(op.slot), MMU_PT_UPDATE_PRESERVE_AD, e, DOMID_SELF);
    case WRITE_LATE:   return write_late(d, op);
    case FOREIGN:      return mmu_update(m, index_of(op.slot), MMU_NORMAL_PT_UPDATE, e, frame_owner_id(frame_mfn(op.which)));
    case PIN:          return mmuext(MMUEXT_PIN_L1_TABLE + op.level - 1u, m.v);
    case UNPIN:        return mmuext(MMUEXT_UNPIN_TABLE, m.v);
    case ROOT:         return mmuext(MMUEXT_NEW_BASEPTR, m.v);
    case USER_ROOT:    return mmuext(MMUEXT_NEW_USER_BASEPTR, op.level ? m.v : 0);
    case CLEAR:        return mmuext(MMUEXT_CLEAR_PAGE, m.v);
    case EMULATE:
    case EMULATE_LATE: return emulate(d, op);
    case VA:           return make_call(do_update_va_mapping, address_of(op), e, UVMF_NONE, 0);
    case WRITE_VA:     return write_va(v, op);
    case ACCESS:       return access_by(v, op);
    case DESCRIPTORS:  return set_gdt(v, m);
    case INFO:         return set_info(v, m);
    case GIVE_UP:      return domain_give_up_frame(d, m) ? 0 : -EINVAL;
    case POPULATE:     return mfn_eq(domain_alloc_frames(d, 0, 0), INVALID_MFN) ? -ENOMEM : 0;
    case WITHDRAW:     return withdraw(d, op);
    case GRANT_MAP:
    case GRANT_UNMAP:  return grant(d, op);
    case TEARDOWN:     return teardown(d);
    case BEGIN:        return change_store(d, pt_mirror_begin);
    case END:          return change_store(d, pt_mirror_end);
    case REST:         machine_rest(); return 0;
    case SHORTAGE:     changing.short_of_memory ^= true; return 0;
    case NR_KINDS:     break;
    }
    BUG();
}

/* update_va_mapping's arguments are the same; for 32-bit guests in other registers. */
s64 op_resume(void)
{
    if (last.kind == WRITE_LATE)
        last.kind = WRITE;
    else if (!(KIND(last.kind) & (WALKS | KIND(VA))))
        return call_again();
    return op_run(last);
}

/* --- All of them ---------------------------------------------------------------------------------------------------------------------- */

static void (*attempt_one)(struct op op);
static void attempt(struct op op)
{
    if (size->kinds & KIND(op.kind))
        attempt_one(op);
}

/* Writable the one below, or read-only the table of level 1, which then is mapped at an address. What is at an address is in that table. */
static bool is_of_chain(struct op op)
{
    unsigned l1 = 1 - chain_level(0), n = KIND(op.kind) & (KIND(VA) | KIND(WRITE_VA)) ? l1 : op.frame;

    return op.value == RO ? op.which == l1 && n == l1 : op.which == n - 1;
}

/* op with each value that an entry may have: of a frame that is no table only those that differ in what comes of them. */
static void each_value(struct op op, bool table)
{
    static const u8 refused[][2] = { { RO, VALUE_HOLE }, { RO, VALUE_BEYOND } };

    op.value = NONE;
    attempt(op);
    for (op.which = 0; op.which < nr_all; op.which++) {
        for (op.value = RO; op.value <= RW; op.value++)
            if (!size->chain || is_of_chain(op))
                attempt(op);
        op.value = CLEAN;
        if (size->kinds & KIND(ACCESS))
            attempt(op);
    }
    if (!table)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        op.value = refused[i][0];
        op.which = refused[i][1];
        attempt(op);
    }
    op.which = VALUE_DEVICE;
    op.value = RW;
    if (size->kinds & USES)
        attempt(op);
    op.which = op.frame;
    for (op.value = BAD; op.value <= ABSENT; op.value++)
        attempt(op);
}

static void each_hv_slot(struct op op)
{
    op.slot = SLOT_HV;
    op.value = NONE;
    attempt(op);
    op.value = RO;
    op.which = op.frame;
    attempt(op);
}

/* Changes of frame op.frame as a table, or as what may become one. */
static void each_change(struct op op)
{
    unsigned level = owns(&guests.d[op.domain], op.frame) ? complete_level(op.frame) : 0;

    for (op.slot = 0; op.slot < size->slots; op.slot++) {
        op.kind = WRITE;
        if (level || !size->chain)
            each_value(op, level);
        op.kind = WRITE_AD;
        if (level)
            each_value(op, true);
        for (op.kind = EMULATE; level == 1 && op.kind <= EMULATE_LATE; op.kind++)
            if (op.kind == EMULATE || fmt->id != PT32)
                each_value(op, true);
        op.kind = WRITE_LATE;
        if (level > 1 && guests.d[op.domain].arch.nr_orphans)
            each_value(op, true);
        op.kind = ACCESS;
        for (op.level = 0; level && !guests.d[op.domain].arch.mirror_walked && op.level < 2; op.level++) {
            u64 e = entry_at(op.frame, slot_index[op.slot]);

            if (e & PTE_P && (!op.level || (level == 1 && e & PTE_RW)))
                attempt(op);
        }
        op.level = 0;
    }
    op.kind = WRITE;
    if (level && level == fmt->hv_level && (fmt->id != PT32P || fake_types[FRAME_FIRST + op.frame] & FW_HV))
        each_hv_slot(op);
}

static void each_use_of_others(struct op op)
{
    for (op.which = 0; complete_level(op.frame) == 1 && op.which < nr_all; op.which++)
        for (op.slot = 0; !owns(&guests.d[op.domain], op.which) && op.slot < size->slots; op.slot++)
            for (op.value = RO; op.value <= RW; op.value++)
                for (op.kind = FOREIGN; op.kind <= GRANT_UNMAP; op.kind++)
                    attempt(op);
}

static void each_of_frame(struct op op)
{
    static const u8 plain[] = { UNPIN, ROOT, CLEAR, DESCRIPTORS, INFO, GIVE_UP };

    each_change(op);
    each_use_of_others(op);
    op.kind = PIN;
    for (op.level = 1; op.level <= fmt->levels; op.level++)
        if (!size->chain || (op.level == chain_level(op.frame) && (op.level == 1 || op.level == fmt->levels)))
            attempt(op);
    for (op.level = 0; op.level < 2; op.level++) {
        op.kind = USER_ROOT;
        if (fmt->levels == 4)
            attempt(op);
        op.kind = WITHDRAW;
        attempt(op);
    }
    op.level = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(plain); i++) {
        op.kind = plain[i];
        attempt(op);
    }
}

/* Through each path of slots from the root on, of which the last is that of the entry. */
static void each_of_address(struct op op)
{
    for (op.path = 0; op.path < (size->slots == 1 ? 1u : 1u << fmt->levels); op.path++) {
        op.kind = VA;
        each_value(op, true);
        op.kind = ACCESS;
        for (op.level = 0; guests.d[op.domain].arch.mirror_walked && op.level < 2; op.level++)
            attempt(op);
        op.kind = WRITE_VA;
        for (op.level = 0; op.level < 2; op.level++)
            for (op.slot = 0; op.slot < size->slots; op.slot++)
                each_value(op, true);
        op.level = op.slot = 0;
    }
}

/* So many orders of the frames in which what walks over them may find them. */
static unsigned nr_orders(const struct domain *d)
{
    unsigned n = 1;

    for (unsigned i = 2; i <= nr_all && !keeps_order(d) && size->frames[1] == 0 && nr_all <= 3; i++)
        n *= i;
    return n;
}

/* What the control domain does, and nobody else; what was interrupted it goes on with in the order in which it began. */
static void each_of_control(struct domain *d, struct op op)
{
    static const u8 walks[] = { TEARDOWN, BEGIN, END };

    for (unsigned i = 0; i < ARRAY_SIZE(walks); i++) {
        unsigned nr = nr_orders(d);

        op.kind = walks[i];
        for (unsigned order = 0; order < nr; order++) {
            op.path = (u8)order;
            attempt(op);
        }
    }
    op.path = 0;
    op.kind = REST;
    if (d->arch.store_holds)
        attempt(op);
    op.kind = SHORTAGE;
    attempt(op);
}

void for_each_op(void (*fn)(struct op op))
{
    attempt_one = fn;
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        struct domain *d = &guests.d[i];
        struct op op = { .domain = (u8)i };

        if (!size->frames[i] || d->dying == DOMAIN_DEAD)
            continue;
        each_of_control(d, op);
        if (d->dying || d->arch.store_holds)
            continue;
        for (op.frame = 0; op.frame < nr_all; op.frame++)
            each_of_frame(op);
        op.frame = 0;
        op.kind = POPULATE;
        attempt(op);
        if (!mfn_eq(d->vcpu[0]->arch.root_kernel, INVALID_MFN))
            each_of_address(op);
    }
}

/* --- As a line for the reader --------------------------------------------------------------------------------------------------------- */

static const char *const kind_names[NR_KINDS] = {
    [WRITE] = "mmu_update", [WRITE_AD] = "mmu_update, preserving A and D,", [WRITE_LATE] = "mmu_update under way",
    [PIN] = "mmuext_op pin", [UNPIN] = "mmuext_op unpin", [ROOT] = "mmuext_op new_baseptr", [USER_ROOT] = "mmuext_op new_user_baseptr",
    [CLEAR] = "mmuext_op clear_page", [EMULATE] = "emulated write", [EMULATE_LATE] = "emulated write, too late,",
    [VA] = "update_va_mapping", [WRITE_VA] = "write to a mapped table", [ACCESS] = "access", [DESCRIPTORS] = "set_gdt",
    [INFO] = "register_vcpu_info", [GIVE_UP] = "decrease_reservation", [POPULATE] = "increase_reservation", [WITHDRAW] = "exchange",
    [FOREIGN] = "mmu_update of another's frame", [GRANT_MAP] = "grant map", [GRANT_UNMAP] = "grant unmap", [TEARDOWN] = "end of the domain",
    [BEGIN] = "mirrors begin", [END] = "mirrors end", [REST] = "all vCPUs rest", [SHORTAGE] = "memory is short, or is no longer",
};

static void print_value(struct op op, const char *names)
{
    static const char *const kinds[NR_VALUES] = {
        [RO] = "read-only", [RW] = "writable", [CLEAN] = "writable, not written", [BAD] = "with bad flags", [ABSENT] = "not present",
    };
    static const char *const others[] = { "no RAM", "device memory", "beyond memory" };

    if (op.value == NONE)
        printf(" = none");
    else if (op.which < FRAMES_MAX)
        printf(" = %c %s", names[op.which], kinds[op.value]);
    else
        printf(" = %s, %s", others[op.which - FRAMES_MAX], kinds[op.value]);
}

void op_print(struct op op, const char *names)
{
    static const u32 of_entry = KIND(WRITE) | KIND(WRITE_AD) | KIND(WRITE_LATE) | KIND(EMULATE) | KIND(EMULATE_LATE) | OTHERS;
    static const u32 of_address = KIND(VA) | KIND(WRITE_VA);

    printf("d%u: %s", op.domain + 1, kind_names[op.kind]);
    if (KIND(op.kind) & of_entry || (op.kind == ACCESS && !guests.d[op.domain].arch.mirror_walked))
        printf(" %c[%u]", names[op.frame], index_of(op.slot));
    else if (KIND(op.kind) & of_address || op.kind == ACCESS)
        printf(" at %#lx", (unsigned long)address_of(op));
    else if (op.kind == PIN)
        printf(" %c as L%u", names[op.frame], op.level);
    else if (op.kind == USER_ROOT && !op.level)
        printf(" none");
    else if (!(KIND(op.kind) & (WALKS | KIND(POPULATE) | KIND(REST) | KIND(SHORTAGE))))
        printf(" %c", names[op.frame]);
    if (op.kind == WRITE_VA)
        printf(" + entry %u", slot_index[op.slot]);
    if (KIND(op.kind) & (of_entry | of_address))
        print_value(op, names);
    if (op.level && KIND(op.kind) & (KIND(ACCESS) | KIND(WRITE_VA) | KIND(WITHDRAW)))
        printf(op.kind == ACCESS ? ", writing" : op.kind == WITHDRAW ? ", away" : ", comparing");
    for (unsigned n = 0, any = 0; n < 32; n++)
        if (op.decisions >> n & 1)
            printf(any++ ? ", %u" : "; gives way at look %u", n + 1);
    putchar('\n');
}
