/* Calls on page tables, reservations and descriptors: what is legal by the model, and now and then what is not. */
#include "fuzz.h"
#include "string.h"

#define COUNT_RESUMED 0x80000000u   /* in the count of mmu_update and mmuext_op: some are done, and pdone says how many */

/* ---- Page tables ---- */

/* Read once: another vCPU may learn otherwise meanwhile. */
static unsigned level_of(unsigned n) { return read_once(model.level[n]); }

/* A victim that we take for a table of this level (0: for none), if a few looks find one. */
static unsigned victim_of(struct fuzz *z, unsigned level)
{
    unsigned n = victim_nr(z);

    for (unsigned tries = 0; tries < 6 && level_of(n) != level; tries++)
        n = victim_nr(z);
    return n;
}

/* An entry that a table of this level may have. */
static u64 legal_entry(struct fuzz *z, unsigned level)
{
    unsigned n;

    if (once_in(z, 4))
        return 0;
    if (level == 1)
        return once_in(z, 2) ? pte_make(virt_to_mfn(some_victim(z)), PTE_READ)
                             : pte_make(model.loose[below(z, NR_LOOSE)], once_in(z, 3) ? PTE_READ | PTE_US : PTE_DATA);
    n = once_in(z, 12) ? victim_of(z, level) : victim_of(z, once_in(z, 4) ? 0 : level - 1);
    if (once_in(z, 12))     /* linear: read-only */
        return pte_make(virt_to_mfn(model.fixed.victim[n]), PTE_P | (format.level[level].table_flags & PTE_US));
    return pte_make(virt_to_mfn(model.fixed.victim[n]), format.level[level].table_flags);
}

static unsigned some_level(struct fuzz *z)
{
    unsigned level = 1 + below(z, format.levels);

    return once_in(z, 3) ? 1 : level;
}

static void make_update(struct fuzz *z, struct mmu_update *u)
{
    unsigned n = victim_of(z, some_level(z)), level = level_of(n) ?: 1;
    unsigned index = once_in(z, 2) ? below(z, 4) : below(z, pte_count(level));

    u->ptr = virt_to_maddr(model.fixed.victim[n]) + index * format.pte_bytes;
    u->val = legal_entry(z, level);
    if (once_in(z, 12))
        u->ptr += below(z, 8);
    if (once_in(z, 12))
        u->ptr = (u64)some_mfn(z) << 12 | (u->ptr & 0xfff);
    if (once_in(z, 12))
        u->val = some_pte(z);
    if (once_in(z, 30)) {   /* machine-to-physical */
        u->ptr = (u64)model.loose[below(z, NR_LOOSE)] << 12 | MMU_MACHPHYS_UPDATE;
        u->val = below(z, 4096);
    }
    if (is_vital(u->ptr >> 12))     /* an offset may lead into the next page */
        u->ptr = virt_to_maddr(model.fixed.victim[n]);
}

static void make_count(struct fuzz *z, struct call *c, unsigned n)
{
    c->args[1] = n;
    if (once_in(z, 24))     /* as if it were made again */
        c->args[1] |= (word)COUNT_RESUMED;
    c->args[2] = once_in(z, 4) ? P(c->buffer + 500) : 0;
    c->args[3] = once_in(z, 16) ? some_domain(z) : DOMID_SELF;
    if (once_in(z, 30))
        c->args[3] |= (word)(some_domain(z) + 1) << 16;
}

void make_mmu_update(struct fuzz *z, struct call *c)
{
    struct mmu_update *u = (void *)c->buffer;
    unsigned n = once_in(z, 40) ? 200 : 1 + below(z, 5);

    for (unsigned i = 0; i < n; i++)
        make_update(z, u + i);
    make_count(z, c, n);
}

static unsigned victim_with(word mfn)
{
    for (unsigned n = 0; n < NR_VICTIMS; n++)
        if (virt_to_mfn(model.fixed.victim[n]) == mfn)
            return n;
    return NR_VICTIMS;
}

/* What is named by a table is one of the level below. */
void learn_mmu_update(struct fuzz *z, struct call *c, long rc)
{
    const struct mmu_update *u = (const void *)c->buffer;

    (void)z;
    if (rc || c->args[3] != DOMID_SELF)
        return;
    for (unsigned i = 0; i < (c->args[1] & 7); i++) {
        unsigned table = victim_with((word)(u[i].ptr >> 12)), below_it = victim_with(pte_mfn(u[i].val));
        unsigned level = table < NR_VICTIMS ? level_of(table) : 0;

        if (level > 1 && below_it < NR_VICTIMS && !level_of(below_it))
            model.level[below_it] = (u8)(level - 1);
    }
}

/* Of tables: by the level that they have, or any if they have none. */
static void make_pin(struct fuzz *z, GUEST(mmuext_op) *op)
{
    unsigned n = victim_nr(z), level = level_of(n);

    op->arg1 = virt_to_mfn(model.fixed.victim[n]);
    if (model.pinned[n] && !once_in(z, 4))
        op->cmd = MMUEXT_UNPIN_TABLE;
    else
        op->cmd = MMUEXT_PIN_L1_TABLE + (level && !once_in(z, 12) ? level : 1 + below(z, once_in(z, 8) ? 4 : format.levels)) - 1;
}

/* Each has CPUs' masks of its own, behind the operations: what is named twice is read twice. */
static void make_flush(struct fuzz *z, GUEST(mmuext_op) *op)
{
    op->cmd = MMUEXT_TLB_FLUSH_LOCAL + below(z, 8);
    op->arg1 = P(slot(z));
    op->arg2 = some_pointer(z, op + 4);
}

/* Roots for user space: what victims have become. */
static void make_user_root(struct fuzz *z, GUEST(mmuext_op) *op)
{
    op->cmd = format.levels == 4 ? MMUEXT_NEW_USER_BASEPTR : MMUEXT_TLB_FLUSH_LOCAL;
    op->arg1 = once_in(z, 3) ? 0 : virt_to_mfn(model.fixed.victim[victim_of(z, 4)]);
}

/* Two of ours that are the same but for the frame, and what can never be one: a victim may be one, which maps nothing of ours. */
void make_root(struct fuzz *z, struct call *c)
{
    *(GUEST(mmuext_op) *)c->buffer = (GUEST(mmuext_op)){
        .cmd = MMUEXT_NEW_BASEPTR, .arg1 = once_in(z, 4) ? (word)start_info->shared_info >> 12 : model.fixed.roots[below(z, 2)] };
    make_count(z, c, 1);
}

static void make_ext(struct fuzz *z, GUEST(mmuext_op) *op)
{
    *op = (GUEST(mmuext_op)){ .cmd = below(z, 22), .arg1 = some_mfn(z), .arg2 = some_mfn(z) };
    switch (below(z, 12)) {
    case 0 ... 5: make_pin(z, op); break;
    case 6: make_flush(z, op); break;
    case 7: make_user_root(z, op); break;
    case 8:
        op->cmd = MMUEXT_SET_LDT;
        op->arg1 = P(once_in(z, 3) ? slot(z) : some_victim(z));
        op->arg2 = below(z, 8300);
        break;
    case 9 ... 10:
        op->cmd = once_in(z, 2) ? MMUEXT_CLEAR_PAGE : MMUEXT_COPY_PAGE;
        op->arg1 = virt_to_mfn(model.fixed.victim[victim_of(z, 0)]);
        break;
    default: break;
    }
    if (op->cmd == MMUEXT_NEW_BASEPTR)
        op->cmd = MMUEXT_TLB_FLUSH_LOCAL;
}

void make_mmuext(struct fuzz *z, struct call *c)
{
    GUEST(mmuext_op) *op = (void *)c->buffer;
    unsigned n = once_in(z, 3) ? 1 + below(z, 3) : 1;

    for (unsigned i = 0; i < n; i++)
        make_ext(z, op + i);
    if (c->args[0] - P(op) < 4096)      /* what other calls have left could be a root that is not ours */
        c->args[0] = P(op);
    make_count(z, c, n);
}

static void learn_pin(const GUEST(mmuext_op) *op)
{
    unsigned n = victim_with(op->arg1);

    if (n == NR_VICTIMS)
        return;
    if (op->cmd <= MMUEXT_PIN_L4_TABLE) {
        model.pinned[n] = true;
        model.level[n] = (u8)(op->cmd - MMUEXT_PIN_L1_TABLE + 1);
    } else if (op->cmd == MMUEXT_UNPIN_TABLE) {
        model.pinned[n] = false;
        if (op->arg2 & 1)       /* as often as not something still names it */
            model.level[n] = 0;
    }
}

void learn_mmuext(struct fuzz *z, struct call *c, long rc)
{
    const GUEST(mmuext_op) *op = (const void *)c->buffer;

    (void)z;
    for (unsigned i = 0; !rc && i < (c->args[1] & 3); i++)
        learn_pin(op + i);
}

/* In our windows: not our own arguments and code. */
void make_va_mapping(struct fuzz *z, struct call *c)
{
    word va = once_in(z, 40) ? format.hv_start + below(z, 16) * 4096 : P(slot(z));
    word flags = below(z, 4) | (once_in(z, 2) ? (word)UVMF_ALL : once_in(z, 4) ? some_pointer(z, c->buffer) & ~(word)7 : 0);
    u64 e = once_in(z, 3) ? some_pte(z) : legal_entry(z, 1);
    const word args[] = { va, ARG64(e), flags };

    memcpy(c->args, args, sizeof(args));
}

void make_va_mapping_other(struct fuzz *z, struct call *c)
{
    make_va_mapping(z, c);
    c->args[sizeof(word) == 8 ? 3 : 4] = once_in(z, 2) ? some_other(z) : some_domain(z);
}

/* ---- Descriptors ---- */

void make_descriptor(struct fuzz *z, struct call *c)
{
    static const u64 kinds[] = { 0x00cff3000000ffffULL, 0x00cffb000000ffffULL, 0x00af9b000000ffffULL, 0x00008900000000ffULL,
                                 0x0000ec0000080000ULL, 0x00cf93000000ffffULL, 0 };
    word mfn = once_in(z, 3) ? some_mfn(z) : virt_to_mfn(model.fixed.victim[victim_of(z, 0)]);
    u64 at = ((u64)mfn << 12) + below(z, 512) * 8 + once_in(z, 20);
    u64 e = kinds[below(z, ARRAY_SIZE(kinds))] ^ (once_in(z, 8) ? 1ULL << below(z, 64) : 0);
    const word args[] = { ARG64(at), ARG64(e) };

    memcpy(c->args, args, sizeof(args));
}

/* Mostly of clear pages: what else has been in them is no descriptor. */
void make_gdt(struct fuzz *z, struct call *c)
{
    unsigned entries = once_in(z, 8) ? below(z, 8000) : below(z, 600);

    for (unsigned i = 0; i < 16; i++) {
        word mfn = virt_to_mfn(model.fixed.victim[victim_of(z, 0)]);

        ((word *)c->buffer)[i] = once_in(z, 12) ? some_mfn(z) : mfn;
        if (i <= entries / 512 && !once_in(z, 4))
            (void)mmuext(MMUEXT_CLEAR_PAGE, mfn, 0);
    }
    c->args[1] = entries;
}

/* ---- Reservations: frames in at byte 2048, out at 3072 ---- */

#define IN  2048
#define OUT 3072

static GUEST(xen_memory_reservation) reservation(struct fuzz *z, struct call *c, unsigned at, unsigned order, unsigned n)
{
    return (GUEST(xen_memory_reservation)){ .extent_start = P(c->buffer) + at, .nr_extents = n, .extent_order = order,
                                            .mem_flags = once_in(z, 8) ? below(z, 64) : 0,
                                            .domid = once_in(z, 6) ? some_domain(z) : DOMID_SELF };
}

static void fill_frames(struct fuzz *z, struct call *c)
{
    word *in = (word *)((u8 *)c->buffer + IN), *out = (word *)((u8 *)c->buffer + OUT);

    for (unsigned i = 0; i < 16; i++) {
        in[i] = once_in(z, 20) ? some_mfn(z) : model.loose[below(z, NR_LOOSE)];
        out[i] = start_info->nr_pages - 1 - below(z, NR_LOOSE);
        if (c->command->cmd != XENMEM_decrease_reservation && c->command->cmd != XENMEM_exchange)
            in[i] = out[i];
    }
}

void make_reservation(struct fuzz *z, struct call *c)
{
    fill_frames(z, c);
    *(GUEST(xen_memory_reservation) *)c->buffer = reservation(z, c, IN, once_in(z, 20) ? below(z, 15) : 0, 1 + below(z, 4));
    if (once_in(z, 24))     /* as if it were made again */
        c->args[0] |= (word)below(z, 8) << 6;
}

/* One frame mostly: of four that chance has chosen, one is mapped or gone, or two are the same. */
void make_exchange(struct fuzz *z, struct call *c)
{
    GUEST(xen_memory_exchange) *x = (void *)c->buffer;
    bool one = !once_in(z, 4);
    unsigned in = !one && once_in(z, 4) ? below(z, 3) : 0, out = !one && once_in(z, 4) ? below(z, 3) : 0, n = one ? 1 : 4;

    fill_frames(z, c);
    memset(x, 0, sizeof(*x));
    x->in = reservation(z, c, IN, in, n >> in);
    x->out = reservation(z, c, OUT, out, n >> out);
    if (!once_in(z, 20))
        x->out.domid = x->in.domid;
    x->nr_exchanged = once_in(z, 20) ? below(z, 6) : 0;
}

/* What the hypervisor wrote where the extents were is ours now, or not: it is tried in either case. */
void learn_frames(struct fuzz *z, struct call *c, long rc)
{
    const word *got = (const word *)((const u8 *)c->buffer + IN);

    for (unsigned i = 0; rc >= 0 && i < 4; i++)
        model.loose[below(z, NR_LOOSE)] = harmless_frame(z, got[i]);
}

/* Frames of order 0, each in the place of the one that was given for it. */
void learn_exchange(struct fuzz *z, struct call *c, long rc)
{
    const GUEST(xen_memory_exchange) *x = (const void *)c->buffer;
    const word *in = (const word *)((const u8 *)c->buffer + IN), *out = (const word *)((const u8 *)c->buffer + OUT);

    for (unsigned i = 0; !rc && !x->out.extent_order && i < min((unsigned)x->nr_exchanged, 4u); i++)
        for (unsigned n = 0; n < NR_LOOSE; n++)
            if (model.loose[n] == in[i])
                model.loose[n] = harmless_frame(z, out[i]);
}
