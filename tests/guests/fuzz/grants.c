/* Grants: offered to others and to ourselves, mapped, copied and given away; with handles and addresses that calls have told. */
#include "fuzz.h"
#include "string.h"

static void offer(struct fuzz *z)
{
    static const u16 types[] = { GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly, 0, 2, 3, 0x100 | 1 };
    unsigned ref = FIRST_REF + below(z, NR_REFS);
    domid_t to = once_in(z, 8) ? some_domain(z) : once_in(z, 2) ? some_other(z) : 0;
    u16 flags = types[below(z, ARRAY_SIZE(types))];
    word frame = once_in(z, 3) ? some_mfn(z) : model.loose[below(z, NR_LOOSE)];

    if (once_in(z, 2)) {
        model.fixed.grants[ref].domid = to;
        model.fixed.grants[ref].frame = (u32)frame;
        model.fixed.grants[ref].flags = flags;
    } else {
        model.fixed.grants2[ref].hdr.domid = to;
        model.fixed.grants2[ref].sub_page.page_off = (u16)below(z, 4100);
        model.fixed.grants2[ref].sub_page.length = (u16)next(z);
        model.fixed.grants2[ref].full_page.frame = once_in(z, 10) ? next(z) : frame;
        model.fixed.grants2[ref].hdr.flags = flags;
    }
}

/* The calls on the table as a whole, which take one element. */
static void table_op(struct fuzz *z, struct call *c)
{
    u64 list = P(c->buffer) + 2048;

    switch (c->command->cmd) {
    case GNTTABOP_setup_table:
        *(GUEST(gnttab_setup_table) *)c->buffer = (GUEST(gnttab_setup_table)){
            .dom = some_domain(z), .nr_frames = below(z, 70), .frame_list = (word)list };
        break;
    case GNTTABOP_get_status_frames:
        *(GUEST(gnttab_get_status_frames) *)c->buffer = (GUEST(gnttab_get_status_frames)){
            .dom = some_domain(z), .nr_frames = below(z, 12), .frame_list = list };
        break;
    case GNTTABOP_set_version:
        *(struct gnttab_set_version *)c->buffer = (struct gnttab_set_version){ below(z, 12) ? 1 + below(z, 2) : below(z, 5) };
        break;
    case GNTTABOP_swap_grant_ref:
        *(struct gnttab_swap_grant_ref *)c->buffer = (struct gnttab_swap_grant_ref){
            .ref_a = FIRST_REF + below(z, NR_REFS), .ref_b = FIRST_REF + below(z, once_in(z, 8) ? 4096 : NR_REFS) };
        break;
    default: break;
    }
    c->args[2] = 1;
}

static u64 host_address(struct fuzz *z, u32 *flags)
{
    if (!once_in(z, 3))
        return P(slot(z));
    *flags |= GNTMAP_contains_pte;
    return virt_to_maddr(some_victim(z)) + below(z, 8) * format.pte_bytes + once_in(z, 20);
}

static void map_op(struct fuzz *z, struct call *c, struct gnttab_map_grant_ref *op)
{
    *op = (struct gnttab_map_grant_ref){ .ref = (u32)value_of(z, c, 'g'), .dom = once_in(z, 2) ? some_domain(z) : some_other(z),
                                         .flags = GNTMAP_host_map | below(z, 8) | (once_in(z, 12) ? (u32)next(z) : 0) };
    op->flags &= ~(u32)GNTMAP_contains_pte;
    op->host_addr = host_address(z, &op->flags);
}

static void unmap_op(struct fuzz *z, struct gnttab_unmap_grant_ref *op)
{
    struct held_map m = model.map[below(z, NR_HELD)];
    u32 unused = 0;

    *op = (struct gnttab_unmap_grant_ref){ .host_addr = once_in(z, 8) ? host_address(z, &unused) : m.host_addr,
        .handle = once_in(z, 8) ? below(z, 20) : m.handle, .dev_bus_addr = once_in(z, 4) ? (u64)some_mfn(z) << 12 : 0 };
}

static void replace_op(struct fuzz *z, struct gnttab_unmap_and_replace *op)
{
    struct held_map m = model.map[below(z, NR_HELD)];

    *op = (struct gnttab_unmap_and_replace){ .host_addr = m.host_addr, .new_addr = P(slot(z)), .handle = m.handle };
}

static void copy_op(struct fuzz *z, struct call *c, GUEST(gnttab_copy) *op)
{
    memset(op, 0, sizeof(*op));
    op->flags = (u16)below(z, 4);
    op->source.domid = op->flags & GNTCOPY_source_gref && once_in(z, 2) ? some_other(z) : some_domain(z);
    op->dest.domid = op->flags & GNTCOPY_dest_gref && once_in(z, 2) ? some_other(z) : some_domain(z);
    op->source.u = op->flags & GNTCOPY_source_gref ? (word)value_of(z, c, 'g') : some_mfn(z);
    op->dest.u = op->flags & GNTCOPY_dest_gref ? (word)value_of(z, c, 'g') : some_mfn(z);
    op->source.offset = (u16)below(z, once_in(z, 8) ? 4100 : 1000);
    op->dest.offset = (u16)below(z, once_in(z, 8) ? 4100 : 1000);
    op->len = (u16)below(z, once_in(z, 8) ? 4100 : 1000);
}

static void make_element(struct fuzz *z, struct call *c, unsigned i)
{
    switch (c->command->cmd) {
    case GNTTABOP_map_grant_ref: map_op(z, c, (struct gnttab_map_grant_ref *)c->buffer + i); break;
    case GNTTABOP_unmap_grant_ref: unmap_op(z, (struct gnttab_unmap_grant_ref *)c->buffer + i); break;
    case GNTTABOP_unmap_and_replace: replace_op(z, (struct gnttab_unmap_and_replace *)c->buffer + i); break;
    case GNTTABOP_copy: copy_op(z, c, (GUEST(gnttab_copy) *)c->buffer + i); break;
    case GNTTABOP_transfer:
        ((GUEST(gnttab_transfer) *)c->buffer)[i] = (GUEST(gnttab_transfer)){
            .mfn = model.loose[below(z, NR_LOOSE)], .domid = some_other(z), .ref = (u32)value_of(z, c, 'g') };
        break;
    default: break;
    }
}

static bool is_list(u32 cmd)
{
    return cmd == GNTTABOP_map_grant_ref || cmd == GNTTABOP_unmap_grant_ref || cmd == GNTTABOP_unmap_and_replace ||
           cmd == GNTTABOP_copy || cmd == GNTTABOP_transfer;
}

void make_grant(struct fuzz *z, struct call *c)
{
    unsigned n = 1 + below(z, 4);

    offer(z);
    if (!is_list(c->command->cmd)) {
        table_op(z, c);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        make_element(z, c, i);
    c->args[2] = once_in(z, 60) ? below(z, 1000) : n;
}

void learn_map(struct fuzz *z, struct call *c, long rc)
{
    const struct gnttab_map_grant_ref *op = (const void *)c->buffer;

    for (unsigned i = 0; rc == 0 && i < (c->args[2] & 7); i++)
        if (op[i].status == 0)
            hold_map(z, (struct held_map){ op[i].handle, op[i].flags, op[i].host_addr });
}

/* What is not held any more is not forgotten: it is tried once more now and then. */
void learn_unmap(struct fuzz *z, struct call *c, long rc)
{
    u32 handle = ((const struct gnttab_unmap_grant_ref *)c->buffer)->handle;

    for (unsigned i = 0; rc == 0 && i < NR_HELD; i++)
        if (model.map[i].handle == handle && !once_in(z, 8))
            model.map[i] = model.map[below(z, NR_HELD)];
}
