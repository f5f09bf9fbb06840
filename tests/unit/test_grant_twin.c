/*
 * Grant operations in arrays, which keep a domain or a page from one to the next, and by the long way, which takes each anew: random
 * ones leave the same entries, counts, pages and answers.
 */
// SOURCES: tests/unit/fake/machine.c common/abi.c tests/unit/fake/clause.c common/grant/invariant.c
// SOURCES: common/grant/table.c common/grant/maptrack.c common/grant/call.c common/domain/rights.c common/grant/version.c
#include "fake/twin.h"

#include "../../common/grant/map.c"
#include "../../common/grant/copy.c"

#include "grant_rig.h"

#define NR_REFS 6u
static void **kind;
static struct domain *granters[2];
static mfn_t frames[2][NR_REFS], own[2];
static struct mapping { u64 host_addr, bus; u32 handle; } mapped[64];      /* by the last digits of the handle */

static void begin(void)
{
    setup(kind);
    memset(mapped, 0, sizeof(mapped));
    granters[0] = granter;
    granters[1] = other;
    for (unsigned i = 0; i < ARRAY_SIZE(granters); i++) {
        own[i] = fake_frame_of(grantee);
        for (u32 ref = 0; ref < NR_REFS; ref++)
            frames[i][ref] = grant(granters[i], ref, grantee, 0);
    }
}

/* --- Steps --------------------------------------------------------------------------------------------------- */

/* What the granter may write at any time: for whom, what, of which frame; in version 2 a part of one too. */
static void grant_anew(void)
{
    static const u16 kinds[] = { GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly, 0,
                                 GTF_permit_access | GTF_sub_page };
    unsigned g = (unsigned)random_below(2);
    u32 ref = (u32)random_below(NR_REFS);
    struct grant_entry_header *h = header(granters[g], ref);

    h->domid = random_below(4) ? grantee->id : ctl->id;
    h->flags = (u16)((h->flags & (GTF_reading | GTF_writing)) | kinds[random_below(ARRAY_SIZE(kinds))]);
    if (granters[g]->gnttab->version == 2 && h->flags & GTF_sub_page) {
        ((union grant_entry_v2 *)h)->sub_page.page_off = (u16)random_below(64);
        ((union grant_entry_v2 *)h)->sub_page.length = (u16)random_below(64);
        ((union grant_entry_v2 *)h)->sub_page.frame = frames[g][ref].v;
    } else {
        set_frame(granters[g], ref, frames[random_below(8) ? g : 1 - g][random_below(NR_REFS)].v);
    }
}

/* Runs of one domain and reference, as drivers make them. */
static u16 some_domain(u16 last) { return random_below(3) ? last : random_below(8) ? granters[random_below(2)]->id : 77; }
static u64 some_ref(u64 last) { return random_below(2) ? last : random_below(NR_REFS + 1); }

static void map_array(void)
{
    struct gnttab_map_grant_ref op[8] = { 0 };
    u32 nr = 1 + (u32)random_below(ARRAY_SIZE(op));
    u16 domid = granter->id;

    for (u32 i = 0; i < nr; i++)
        op[i] = (struct gnttab_map_grant_ref){
            .host_addr = random_below(64) << PAGE_SHIFT, .ref = (u32)random_below(NR_REFS + 1), .dom = domid = some_domain(domid),
            .flags = GNTMAP_host_map | (random_below(3) ? 0 : GNTMAP_device_map) | (random_below(2) ? GNTMAP_readonly : 0) };
    twin_say_number((u64)call(GNTTABOP_map_grant_ref, op, sizeof(op), nr));
    twin_say(op, sizeof(op));
    for (u32 i = 0; i < nr; i++)
        if (op[i].status == GNTST_okay)
            mapped[op[i].handle % ARRAY_SIZE(mapped)] =
                (struct mapping){ op[i].host_addr, op[i].flags & GNTMAP_device_map ? op[i].dev_bus_addr : 0, op[i].handle };
}

static void unmap_array(void)
{
    struct gnttab_unmap_grant_ref op[8] = { 0 };
    u32 nr = 1 + (u32)random_below(ARRAY_SIZE(op));

    for (u32 i = 0; i < nr; i++) {
        u64 n = random_below(ARRAY_SIZE(mapped));

        op[i] = (struct gnttab_unmap_grant_ref){ .host_addr = mapped[n].host_addr, .dev_bus_addr = random_below(2) ? mapped[n].bus : 0,
                                                 .handle = mapped[n].handle };
    }
    twin_say_number((u64)call(GNTTABOP_unmap_grant_ref, op, sizeof(op), nr));
    twin_say(op, sizeof(op));
}

/* One side of a copy: a grant, a frame of the caller's, or one that it may not name. */
static void choose_side(struct gnttab_copy_ptr *side, u16 *flags, u16 gref, const struct gnttab_copy_ptr *last, u16 last_flags)
{
    bool is_ref = random_below(4) ? last_flags & gref : random_below(2);

    side->offset = (u16)random_below(80);
    side->domid = is_ref ? some_domain(last->domid) : random_below(8) ? DOMID_SELF : last->domid;
    side->u = is_ref ? some_ref(last->u % NR_REFS) : random_below(4) ? own[random_below(ARRAY_SIZE(own))].v : last->u;
    *flags |= is_ref ? gref : 0;
}

static void copy_array(void)
{
    const struct abi_desc *d = &gnttab_copy_desc;
    enum abi_word w = current_word();
    struct gnttab_copy op[6] = { 0 }, last = { .flags = GNTCOPY_source_gref, .source.domid = granter->id, .dest.domid = other->id };
    u32 nr = 1 + (u32)random_below(ARRAY_SIZE(op));
    u64 raw[sizeof(op) / 8] = { 0 };

    for (u32 i = 0; i < nr; i++) {
        choose_side(&op[i].source, &op[i].flags, GNTCOPY_source_gref, &last.source, last.flags);
        choose_side(&op[i].dest, &op[i].flags, GNTCOPY_dest_gref, &last.dest, last.flags);
        op[i].len = (u16)random_below(40);
        last = op[i];
        assert_true(abi_encode(w, d, (u8 *)raw + i * abi_size(w, d), &op[i]));
    }
    twin_say_number((u64)call(GNTTABOP_copy, raw, sizeof(raw), nr));
    twin_say(raw, sizeof(raw));
}

/* What the caller's pages hold, so that copies have something to move. */
static void write_own(void)
{
    u64 *p = (u64 *)fake_frame_data(own[random_below(ARRAY_SIZE(own))]);

    for (unsigned i = 0; i < 16; i++)
        p[i] = random_below(~0UL);
}

static void say_frame(mfn_t m)
{
    twin_say_number(fake_frame(m)->refs);
    twin_say_number(fake_frame(m)->writers);
    twin_say(fake_frame_data(m), 128);
}

static void say_all(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(granters); i++) {
        say_frame(own[i]);
        twin_say_number(granters[i]->refs);
        twin_say_number(granters[i]->gnttab->nr_refs);
        for (u32 ref = 0; ref < NR_REFS; ref++) {
            const struct active *a = grant_active(granters[i]->gnttab, ref);

            say_frame(frames[i][ref]);
            twin_say_number(flags(granters[i], ref));
            twin_say_number(a->uses);
            twin_say_number(a->uses ? (u64)a->frame << 16 | a->domid : 0);
        }
    }
    for (unsigned i = 0; i < NR_PTES; i++)
        twin_say_number(ptes[i].present ? ptes[i].mfn.v << 1 | ptes[i].readonly : 0);
    twin_say_number(grantee->gnttab->nr_mapped);
    twin_say_number(nr_flushes);
}

static void life(void)
{
    static void (*const steps[])(void) = { grant_anew, map_array, unmap_array, unmap_array, copy_array, copy_array, copy_array, write_own };

    begin();
    for (unsigned i = 0; i < 1500; i++) {
        steps[random_below(ARRAY_SIZE(steps))]();
        say_all();
        twin_step_ends();
    }
    teardown(kind);
}

static void both_ways_agree(void **state)
{
    kind = state;
    for (u64 seed = 1; seed < 4; seed++)
        twins_live(life, seed);
}

#define OF(kind) { "both_ways_agree " #kind, both_ways_agree, NULL, NULL, (void *)&kind }

int main(void)
{
    const struct CMUnitTest tests[] = { OF(OF_64_V1), OF(OF_32_V1), OF(OF_64_V2), OF(OF_32_V2) };

    return cmocka_run_group_tests_name("grant_twin", tests, NULL, NULL);
}
