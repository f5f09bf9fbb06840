/*
 * Grants, by a list of moves of four domains: grant entries that their owners write as they like, the calls with numbers that are nearly
 * right, giving way at any point, memory that cannot be written, no memory at all, ends of domains. No mapping is without its references
 * after any move, and when all domains have died nothing is left (the unit tests' rig says so). The first byte says the domains' word size
 * and the version that their tables have to begin with.
 */
// MAX: 961
// AS: test_grant
#include "grant_rig.h"
#include "moves.h"

#define FRAMES 3            /* that each domain has to give */
#define REFS 8
#define HANDLES 8

static struct domain *all[4];
static mfn_t owned[4 * FRAMES];
static bool dead[4];

/* --- Numbers that are nearly right: the odd one out has no bounds ------------------------------------------ */

static u32 nearly(u32 below, u32 wild)
{
    u8 b = (u8)take(&move, 1);

    return b == 0xff ? wild : b % below;
}

static u16 some_domain(void) { return (u16)nearly(4, DOMID_SELF); }
static u32 some_ref(void) { return nearly(REFS, (u32)take(&move, 4)); }
static u32 some_handle(void) { return nearly(HANDLES, (u32)take(&move, 4)); }
static mfn_t some_frame(void) { return owned[take(&move, 1) % ARRAY_SIZE(owned)]; }
static u64 some_address(void) { return (u64)nearly(8, NR_PTES) * PAGE_SIZE; }

/* --- What the guests do with their own memory --------------------------------------------------------------- */

static void write_entry(void)
{
    unsigned n = (unsigned)take(&move, 1) % 4;
    u32 ref = (u32)take(&move, 1) % REFS;
    u16 flags = (u16)take(&move, 2);

    if (dead[n])
        return;
    flags = flags & 0x80 ? flags : GTF_permit_access | (flags & GTF_readonly);
    set_frame(all[n], ref, some_frame().v);
    *header(all[n], ref) = (struct grant_entry_header){ flags, some_domain() };
}

/* Bytes of an entry, or of the status that version 2 has apart. */
static void scribble(void)
{
    unsigned n = (unsigned)take(&move, 1) % 4;
    u32 ref = (u32)take(&move, 1) % REFS, at = (u32)take(&move, 1) % 16;

    if (dead[n])
        return;
    if (at >= 14 && all[n]->gnttab->version == 2)
        *status(all[n], ref) = (grant_status_t)take(&move, 2);
    else
        ((u8 *)entry(all[n], ref))[at % 8] = (u8)take(&move, 1);
}

/* --- Calls -------------------------------------------------------------------------------------------------------- */

static void map_some(void)
{
    struct gnttab_map_grant_ref op = { .host_addr = some_address(), .ref = some_ref(), .dom = some_domain(), .status = 99 };

    op.flags = (u32)take(&move, 1);
    if (op.flags & 0x80)
        op.flags |= (u32)take(&move, 1) << 16;
    else
        op.flags = GNTMAP_host_map | (op.flags & (GNTMAP_readonly | GNTMAP_device_map));
    op.flags &= ~GNTMAP_contains_pte;       /* which the rig's page tables do not have */
    (void)CALL1(map_grant_ref, op);
}

static void unmap_some(void)
{
    struct gnttab_unmap_grant_ref op = { .host_addr = some_address(), .handle = some_handle(), .status = 99 };
    u8 how = (u8)take(&move, 1);

    op.dev_bus_addr = how & 1 ? some_frame().v << PAGE_SHIFT : 0;
    if (how & 2)
        op.host_addr = 0;
    (void)CALL1(unmap_grant_ref, op);
}

static void replace_some(void)
{
    struct gnttab_unmap_and_replace op = { .host_addr = some_address(), .new_addr = some_address(), .handle = some_handle() };

    (void)CALL1(unmap_and_replace, op);
}

static struct gnttab_copy_ptr some_end(bool by_ref)
{
    struct gnttab_copy_ptr p = { .domid = some_domain(), .offset = (u16)nearly(64, 4095) };

    p.u = by_ref ? some_ref() : some_frame().v;
    return p;
}

static void copy_some(void)
{
    u16 how = (u16)take(&move, 1);
    struct gnttab_copy op = { .flags = how & 3, .len = (u16)nearly(64, 4096), .status = 99 };

    op.source = some_end(how & GNTCOPY_source_gref);
    op.dest = some_end(how & GNTCOPY_dest_gref);
    (void)call_abi(GNTTABOP_copy, &gnttab_copy_desc, &op);
}

static void choose_version(void)
{
    struct gnttab_set_version op = { .version = nearly(4, 1) };

    (void)CALL1(set_version, op);
}

static void swap_some(void)
{
    struct gnttab_swap_grant_ref op = { .ref_a = some_ref(), .ref_b = some_ref() };

    (void)CALL1(swap_grant_ref, op);
}

static void set_up(void)
{
    struct gnttab_setup_table op = { .dom = some_domain(), .frame_list = buffer().v + 128 };

    op.nr_frames = nearly(6, (u32)take(&move, 4));
    (void)call_abi(GNTTABOP_setup_table, &gnttab_setup_table_desc, &op);
}

static void ask_status(void)
{
    struct gnttab_get_status_frames op = { .dom = some_domain(), .frame_list = buffer().v + 128 };

    op.nr_frames = nearly(4, (u32)take(&move, 4));
    (void)call_abi(GNTTABOP_get_status_frames, &gnttab_get_status_frames_desc, &op);
}

/* Any command, with bytes for its structures, what a call that gave way would have in its command too. */
static void call_anything(void)
{
    gva_t a = buffer();
    u32 cmd = (u32)take(&move, 1), count = (u32)take(&move, 1) % 4;

    cmd = cmd & 0x80 ? GNTTABOP_cache_flush | (cmd & 0x7f) << 12 : cmd % 14;
    for (unsigned i = 0; i < 96; i++)
        ((u8 *)fake_guest(a))[i] = (u8)take(&move, 1);
    if ((cmd & 0xfff) == GNTTABOP_cache_flush)
        *(u64 *)fake_guest(a) = some_frame().v << PAGE_SHIFT;
    (void)fake_hypercall(do_grant_table_op, cmd, a.v, count);
}

/* --- The rest of the world ------------------------------------------------------------------------------------------ */

static void become(void)
{
    unsigned n = (unsigned)take(&move, 1) % 4;

    if (!dead[n])
        fake_run(all[n], 0);
}

/* Of what goes wrong once, or always from now on. */
static void trouble(void)
{
    u8 how = (u8)take(&move, 1), n = (u8)take(&move, 1);

    fake = (struct fake_faults){ 0 };
    switch (how % 5) {
    case 0: fake.writes_before_fault = n % 8; break;
    case 1: fake.reads_before_fault = n % 8; break;
    case 2: fake.allocs_before_failure = n % 8; break;
    case 3: fake.preempt_every = n % 4; break;
    }
}

static void die(void)
{
    unsigned n = (unsigned)take(&move, 1) % 4;

    if (n == 0 || all[n] == current->domain)
        return;
    dead[n] = true;
    while (gnttab_release_mappings(all[n]))
        ;
}

/* --- What holds between two moves --------------------------------------------------------------------------------------- */

/* Each entry of a page table has its references. The place for whatever else is to hold. */
static void between_moves(void)
{
    u32 refs[FAKE_NR_FRAMES] = { 0 }, writers[FAKE_NR_FRAMES] = { 0 };

    EXPECT(!tables_locked);
    for (unsigned i = 0; i < NR_PTES; i++)
        if (ptes[i].present) {
            refs[ptes[i].mfn.v - FAKE_FIRST_MFN]++;
            writers[ptes[i].mfn.v - FAKE_FIRST_MFN] += !ptes[i].readonly;
        }
    for (u32 i = 0; i < FAKE_NR_FRAMES; i++) {
        EXPECT(fake_frames[i].refs >= refs[i] + fake_frames[i].allocated && fake_frames[i].writers >= writers[i]);
        EXPECT(fake_frames[i].refs >= fake_frames[i].writers);
    }
}

static void note_state(s64 which)
{
    const struct grant_table *t = current->domain->gnttab;
    u32 used = 0;

    for (unsigned i = 0; i < 4; i++)
        used += all[i]->gnttab->nr_mapped;
    note_seen((unsigned)which & 7, t->version | min(t->nr_mapped, 3u) << 2, min(used, 3u), min(t->nr_frames, 7u));
}

static void play(void)
{
    static void (*const moves[])(void) = {
        write_entry, write_entry, write_entry, scribble, map_some, map_some, map_some, unmap_some, unmap_some, replace_some, copy_some,
        copy_some, choose_version, swap_some, set_up, ask_status, call_anything, become, become, trouble, die,
    };
    unsigned n = (unsigned)take(&move, 1) % ARRAY_SIZE(moves);

    /* A guest's own memory is there for itself. */
    if (moves[n] == write_entry || moves[n] == scribble)
        fake = (struct fake_faults){ 0 };
    moves[n]();
    note_state(n);
}

static void begin(struct fuzz_input *in)
{
    static const struct kind *const kinds[] = { &OF_64_V1, &OF_32_V1, &OF_64_V2, &OF_32_V2 };
    const struct kind *kind = kinds[take(in, 1) % 4];

    setup((void *[]){ (void *)kind });
    all[0] = ctl, all[1] = granter, all[2] = grantee, all[3] = other;
    for (unsigned i = 0; i < ARRAY_SIZE(owned); i++)
        owned[i] = fake_frame_of(all[i / FRAMES]);
    memset(dead, 0, sizeof(dead));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };

    begin(&in);
    while (next_move(&in)) {
        play();
        between_moves();
    }
    (void)teardown(NULL);
    return 0;
}
