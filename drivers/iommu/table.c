/* The walker over I/O page tables, and their formats as data: table.h says what they are. */
#include <asm/mm.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/steps.h>
#include "table.h"

#define ADDRESS 0x000ffffffffff000UL
#define STEPS 1024      /* entries of one io_set() */

/* VT-d specification 4.1, 9.8: second-stage paging entries. */
#define VTD_SECOND_STAGE .present = 3, .read = 1, .write = 2, .large_mask = 1 << 7, .large = 1 << 7, .table = 3
const struct io_format vtd_format = { .name = "VT-d second stage", VTD_SECOND_STAGE };
/* Bit 11: accesses snoop the CPUs' caches, whatever the device asks for. */
const struct io_format vtd_snooping_format = { .name = "VT-d second stage", VTD_SECOND_STAGE, .leaf = 1 << 11 };

/* AMD I/O Virtualization Technology specification 48882, 2.2.3: "next level" 0 is a leaf. Bit 60: accesses snoop the CPUs' caches. */
#define AMD_PRESENT 1UL
#define AMD_COHERENT (1UL << 60)
#define AMD_READ (1UL << 61)
#define AMD_WRITE (1UL << 62)
const struct io_format amd_format = {
    .name = "AMD v1", .present = AMD_PRESENT, .read = AMD_READ, .write = AMD_WRITE, .leaf = AMD_PRESENT | AMD_COHERENT,
    .large_mask = 7 << 9, .large = 0, .table = AMD_PRESENT | AMD_READ | AMD_WRITE, .next_level = 1 << 9,
};

/* --- Entries --- */

static bool is_present(const struct io_format *f, u64 e) { return e & f->present; }

static bool is_table(const struct io_format *f, unsigned level, u64 e)
{
    return level > 1 && is_present(f, e) && (e & f->large_mask) != f->large;
}

static u64 leaf(const struct io_format *f, unsigned level, u64 frame, unsigned access)
{
    if (!access)
        return 0;
    return frame << PAGE_SHIFT | f->leaf | (access & IO_READ ? f->read : 0) | (access & IO_WRITE ? f->write : 0) |
           (level > 1 ? f->large : 0);
}

static unsigned access_of(const struct io_format *f, u64 e)
{
    return is_present(f, e) ? (e & f->read ? IO_READ : 0) | (e & f->write ? IO_WRITE : 0) : 0;
}

static u64 *table_of(u64 e) { return maddr_to_virt(maddr(e & ADDRESS)); }
static unsigned shift_at(unsigned level) { return 9 * (level - 1); }
static u64 frames_at(unsigned level) { return 1UL << shift_at(level); }
static unsigned index_at(u64 frame, unsigned level) { return frame >> shift_at(level) & 511; }

static void written(const struct io_tables *t, const void *p, size_t bytes)
{
    if (!t->coherent)
        clflush_range(p, bytes);
}

static void store(const struct io_tables *t, u64 *p, u64 e)
{
    write_once(*p, e);
    written(t, p, sizeof(*p));
}

/* --- Tables --- */

static u64 *new_table(struct io_tables *t)
{
    u64 *table = alloc_pages(0);

    t->nr_tables += table != NULL;
    return table;
}

static void free_table(struct io_tables *t, u64 *table)
{
    t->nr_tables--;
    free_pages(table, 0);
}

int io_tables_init(struct io_tables *t, const struct io_format *format, unsigned levels, unsigned largest, bool coherent)
{
    *t = (struct io_tables){ .format = format, .levels = (u8)levels, .largest = (u8)largest, .coherent = coherent };
    t->root = new_table(t);
    if (!t->root)
        return -ENOMEM;
    written(t, t->root, PAGE_SIZE);
    return 0;
}

/* What entry *p of this level said, a table says now; false without memory. Nothing changes for devices. */
static bool split(struct io_tables *t, unsigned level, u64 *p)
{
    const struct io_format *f = t->format;
    u64 *table = new_table(t), first = (*p & ADDRESS) >> PAGE_SHIFT;
    unsigned access = access_of(f, *p);

    if (!table)
        return false;
    for (unsigned i = 0; i < 512; i++)
        table[i] = leaf(f, level - 1, first + i * frames_at(level - 1), access);
    steps_add(25);
    written(t, table, PAGE_SIZE);
    store(t, p, virt_to_maddr(table).v | f->table | (level - 1) * f->next_level);
    return true;
}

static void replace(struct io_tables *t, unsigned level, u64 *p, u64 e)
{
    u64 old = *p;

    store(t, p, e);
    if (!is_table(t->format, level, old))
        return;
    t->cut[t->nr_cut].table = table_of(old);
    t->cut[t->nr_cut++].level = (u8)(level - 1);
}

/* --- The walk --- */

/* A leaf that is what it should be, or nothing where nothing should be. */
static bool is_so(const struct io_format *f, unsigned level, u64 e, u64 frame, unsigned access)
{
    return !is_table(f, level, e) && e == leaf(f, level, frame & ~(frames_at(level) - 1), access);
}

/* One entry, as high up as can be: how many frames from `at` on are right now; 0: no memory. What is cut off has at most two levels. */
static u64 set_some(struct io_tables *t, u64 at, u64 end, unsigned access)
{
    unsigned highest = access ? t->largest : 3;
    u64 *table = t->root;

    for (unsigned level = t->levels;; level--) {
        u64 *p = &table[index_at(at, level)], size = frames_at(level), next = (at | (size - 1)) + 1;

        if (is_so(t->format, level, *p, at, access))
            return min(next, end) - at;
        if (level <= highest && !(at & (size - 1)) && next <= end) {
            replace(t, level, p, leaf(t->format, level, at, access));
            return size;
        }
        if (!is_table(t->format, level, *p) && !split(t, level, p))
            return 0;
        table = table_of(*p);
    }
}

int io_set(struct io_tables *t, u64 *first, u64 end, unsigned access)
{
    if (end > frames_at(t->levels + 1))
        return -ERANGE;
    for (unsigned n = 0; *first < end; n++) {
        u64 done;

        if (n == STEPS || t->nr_cut == IO_MAX_CUT)
            return -EAGAIN;
        done = set_some(t, *first, end, access);
        if (!done)
            return -ENOMEM;
        steps_add(2);
        *first += done;
    }
    return 0;
}

unsigned io_lookup(const struct io_tables *t, u64 frame)
{
    const u64 *table = t->root;

    if (frame >= frames_at(t->levels + 1))
        return 0;
    for (unsigned level = t->levels;; level--) {
        u64 e = table[index_at(frame, level)];

        if (!is_table(t->format, level, e))
            return access_of(t->format, e);
        table = table_of(e);
    }
}

/* --- The end of tables --- */

/* With those below it: at most two levels. */
static void free_below(struct io_tables *t, u64 *table, unsigned level)
{
    for (unsigned i = 0; level > 1 && i < 512; i++)
        if (is_table(t->format, level, table[i]))
            free_table(t, table_of(table[i]));
    free_table(t, table);
}

void io_free_cut(struct io_tables *t)
{
    while (t->nr_cut) {
        t->nr_cut--;
        free_below(t, t->cut[t->nr_cut].table, t->cut[t->nr_cut].level);
    }
}

void io_tables_free(struct io_tables *t)
{
    io_free_cut(t);
    free_below(t, t->root, t->levels);
    t->root = NULL;
}
