/*
 * One state of all those that differ in the names of frames. The code treats frames alike whatever their numbers, but for the walks of a
 * teardown and of a change of the store, which go from the lowest to the highest; until they are done frames keep their names.
 *
 * What is forgotten, since nothing but its comparison with 0, or nothing, reads it: how far stale and flushed have come, but not whether
 * they differ; the contents and the order of mirrors that were given up; how many were since the last flush on their account.
 */
#include "explore.h"

bool keep_names;
static u16 new_mfn[MFN_END];            /* of frames and of mirrors' blocks */

/* --- Words that name a frame --------------------------------------------------------------------------------------------------------- */

static bool is_renamed(u64 m) { return is_frame(mfn_kept(m)) || (m >= POOL_FIRST && m < POOL_FIRST + nr_blocks * BLOCK); }
static u64 renamed(u64 m) { return is_renamed(m) ? new_mfn[m] : m; }
static mfn_t renamed_mfn(mfn_t m) { return mfn_kept(renamed(m.v)); }
static u64 renamed_entry(u64 e) { return (e & ~PTE_MFN_MASK) | renamed((e & PTE_MFN_MASK) >> PAGE_SHIFT) << PAGE_SHIFT; }
static u32 renamed_link(u32 link) { return (u32)renamed(link >> 2) << 2 | (link & 3); }

static void rename_line(u64 *line, unsigned bytes)
{
    u32 *half = (u32 *)line;

    for (unsigned i = 0; i < LINE_WORDS; i++) {
        if (bytes == 8) {
            line[i] = renamed_entry(line[i]);
            continue;
        }
        half[i * 2] = (u32)renamed_entry(half[i * 2]);
        half[i * 2 + 1] = (u32)renamed_entry(half[i * 2 + 1]);
    }
}

static void rename_known(struct known_table *known)
{
    if (mfn_eq(known->mfn, INVALID_MFN))
        return;
    known->mfn = renamed_mfn(known->mfn);
    known->page = mfn_to_virt(known->mfn);
}

static void rename_domain(struct domain *d)
{
    struct arch_vcpu *v = &d->vcpu[0]->arch;
    u32 row[FRAMES_MAX], *numbers = mirror_numbers(d);

    for (unsigned i = 0; i < d->arch.nr_orphans; i++)
        d->arch.orphans[i] = renamed_mfn(d->arch.orphans[i]);
    rename_known(&d->arch.known_l1);
    rename_known(&d->arch.known_mirrored_l1);
    d->arch.mirror_dead = renamed_link(d->arch.mirror_dead);
    for (unsigned n = 0; numbers && n < nr_all; n++)
        row[new_mfn[FRAME_FIRST + n] - FRAME_FIRST] = (u32)renamed(numbers[n]);
    if (numbers)
        memcpy(numbers, row, nr_all * sizeof(*row));
    v->root_kernel = renamed_mfn(v->root_kernel);
    v->root_user = renamed_mfn(v->root_user);
    d->vcpu[0]->info_mfn = renamed_mfn(d->vcpu[0]->info_mfn);
    v->gdt_frames[0] = renamed_mfn(v->gdt_frames[0]);
    v->perdomain_l1[0] = renamed_entry(v->perdomain_l1[0]);
    v->cr3 = renamed_entry(v->cr3);
    for (unsigned i = 0; i < ARRAY_SIZE(v->walked); i++)
        v->walked[i] = renamed_entry(v->walked[i]);
    for (unsigned i = 0; v->monitor_l4 && i < 4; i++)
        v->monitor_l3[i] = renamed_entry(v->monitor_l3[i]);
    if (v->monitor_l4)
        v->monitor_l4[0] = renamed_entry(v->monitor_l4[0]);
}

/* --- Pages and words of frames move to their new places ------------------------------------------------------------------------------- */

/* Then there are zeros in it. */
static bool is_free(u64 ref_word) { return ref_word == (u64)DOMID_INVALID << FR_OWNER_SHIFT; }

static void move_frames(u64 first, unsigned nr, unsigned bytes)
{
    static u64 was[BLOCKS * BLOCK][PAGE_SIZE / 64][LINE_WORDS], refs[BLOCKS * BLOCK];
    static u32 types[BLOCKS * BLOCK];
    u64 *line[PAGE_SIZE / 64];

    for (unsigned i = 0; i < nr; i++) {
        refs[i] = fake_refs[first + i];
        types[i] = fake_types[first + i];
        for (unsigned n = is_free(refs[i]) ? 0 : frame_lines(first + i, line); n--;)
            memcpy(was[i][n], line[n], sizeof(was[i][n]));
    }
    for (unsigned i = 0; i < nr; i++) {
        u64 to = new_mfn[first + i], had = refs[to - first];

        fake_refs[to] = refs[i];
        fake_types[to] = first == POOL_FIRST ? renamed_link(types[i]) : types[i];
        for (unsigned n = is_free(refs[i]) && is_free(had) ? 0 : frame_lines(to, line); n--;) {
            if (is_free(refs[i]))
                memset(line[n], 0, sizeof(was[i][n]));
            else
                memcpy(line[n], was[i][n], sizeof(was[i][n]));
            rename_line(line[n], bytes);
        }
    }
}

static bool is_same(u64 first, u64 nr)
{
    for (u64 m = first; m < first + nr; m++)
        if (new_mfn[m] != m)
            return false;
    return true;
}

static void rename_all(void)
{
    if (is_same(FRAME_FIRST, nr_all) && is_same(POOL_FIRST, nr_blocks * BLOCK))
        return;
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        rename_domain(&guests.d[i]);
    move_frames(FRAME_FIRST, nr_all, fmt->pte_bytes);
    if (mirrored)
        move_frames(POOL_FIRST, nr_blocks * BLOCK, 8);
}

/* --- Mirrors: a table's is at the table's place, behind those are the dead ------------------------------------------------------------ */

static void place_block(u64 block, unsigned place)
{
    for (unsigned i = 0; i < BLOCK; i++)
        new_mfn[block + i] = (u16)(POOL_FIRST + place * BLOCK + i);
}

static void clear_block(u64 block)
{
    u64 *line[PAGE_SIZE / 64];

    for (u64 m = block; m < block + BLOCK; m++)
        for (unsigned n = frame_lines(m, line); n--;)
            memset(line[n], 0, 64);
}

/* The dead are blocks of several orders: the biggest have the last places, and come first. A link has the order, and the number above. */
static void sort_dead(struct domain *d, unsigned *place)
{
    u32 links[BLOCKS], head = 0;
    unsigned nr = 0;

    for (u32 link = d->arch.mirror_dead; link; link = frame_notes[link >> 2]) {
        links[nr++] = link;
        clear_block(link >> 2);
    }
    for (u32 order = 0; order < 4; order++)
        for (unsigned n = 0; n < nr; n++) {
            if ((links[n] & 3) != order)
                continue;
            place_block(links[n] >> 2, (*place)++);
            frame_notes[links[n] >> 2] = head;
            head = links[n];
        }
    d->arch.mirror_dead = head;
}

static void place_blocks(const u8 to[FRAMES_MAX])
{
    unsigned place = nr_all;
    bool taken[BLOCKS] = { false };

    for (u64 m = POOL_FIRST; m < POOL_FIRST + nr_blocks * BLOCK; m++)
        new_mfn[m] = 0;
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        struct domain *d = &guests.d[i];
        const u32 *numbers = mirror_numbers(d);

        for (unsigned n = 0; numbers && n < nr_all; n++)
            if (numbers[n])
                place_block(numbers[n], to[n]);
        sort_dead(d, &place);
    }
    for (unsigned b = 0; b < nr_blocks; b++)
        if (new_mfn[POOL_FIRST + b * BLOCK])
            taken[(new_mfn[POOL_FIRST + b * BLOCK] - POOL_FIRST) / BLOCK] = true;
    for (unsigned b = 0, free = 0; b < nr_blocks; b++) {
        if (new_mfn[POOL_FIRST + b * BLOCK])
            continue;
        while (taken[free])
            free++;
        place_block(POOL_FIRST + b * BLOCK, free++);
    }
}

/* --- Which name a frame gets: by what it is, what it names, and who names it ---------------------------------------------------------- */

static u64 mix(u64 a, u64 b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15UL;
    return a ^ a >> 29;
}

static u64 sign_holder(const struct domain *d, mfn_t m)
{
    const struct vcpu *v = d->vcpu[0];
    u64 s = 0;

    for (unsigned i = 0; i < d->arch.nr_orphans; i++)
        s += mfn_eq(d->arch.orphans[i], m) ? 64 + i : 0;
    return s | mfn_eq(v->arch.root_kernel, m) << 8 | mfn_eq(v->arch.root_user, m) << 9 | mfn_eq(v->info_mfn, m) << 10 |
           mfn_eq(v->arch.gdt_frames[0], m) << 11 | mfn_eq(d->arch.known_l1.mfn, m) << 12 | mfn_eq(d->arch.known_mirrored_l1.mfn, m) << 13;
}

static void name_frames(u8 to[FRAMES_MAX])
{
    u64 sign[FRAMES_MAX], next[FRAMES_MAX];
    u8 order[FRAMES_MAX];

    for (unsigned n = 0; n < nr_all; n++) {
        sign[n] = mix(fake_refs[FRAME_FIRST + n], fake_types[FRAME_FIRST + n]);
        sign[n] = mix(sign[n], entry_at(n, fmt->hv_first));
        for (unsigned i = 0; i < NR_DOMAINS; i++)
            sign[n] = mix(sign[n], sign_holder(&guests.d[i], frame_mfn(n)));
    }
    for (unsigned round = 0; round < 3; round++) {
        memcpy(next, sign, sizeof(next));
        for (unsigned n = 0; n < nr_all; n++)
            for (unsigned s = 0; s < size->slots; s++) {
                u64 e = entry_at(n, slot_index[s]), flags = (e & ~PTE_MFN_MASK) + s * 0x10000;
                unsigned target = (unsigned)((e & PTE_MFN_MASK) >> PAGE_SHIFT) - FRAME_FIRST;

                if (target >= nr_all) {
                    next[n] = mix(next[n], e + s);
                    continue;
                }
                next[n] = mix(next[n], mix(sign[target], flags + (target == n)));
                next[target] += mix(sign[n], flags + 7);
            }
        memcpy(sign, next, sizeof(sign));
    }
    for (unsigned n = 0; n < nr_all; n++) {
        unsigned at = n;

        for (; at && sign[order[at - 1]] > sign[n]; at--)
            order[at] = order[at - 1];
        order[at] = (u8)n;
    }
    for (unsigned n = 0; n < nr_all; n++)
        to[order[n]] = (u8)n;
}

static void forget(struct domain *d)
{
    d->arch.stale = d->arch.stale != d->arch.flushed;
    d->arch.flushed = 0;
    d->arch.nr_mirror_dead = 0;
    memset(&d->arch.orphans[d->arch.nr_orphans], 0, sizeof(d->arch.orphans) - d->arch.nr_orphans * sizeof(d->arch.orphans[0]));
}

void rename_frames(const u8 to[FRAMES_MAX])
{
    for (unsigned n = 0; n < nr_all; n++)
        new_mfn[FRAME_FIRST + n] = (u16)(FRAME_FIRST + to[n]);
    if (mirrored)
        place_blocks(to);
    rename_all();
}

void canonicalise(u8 to[FRAMES_MAX])
{
    for (unsigned n = 0; n < nr_all; n++)
        to[n] = (u8)n;
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        forget(&guests.d[i]);
    if (!keep_names && !keeps_order(&guests.d[0]) && !keeps_order(&guests.d[1]))
        name_frames(to);
    rename_frames(to);
}
