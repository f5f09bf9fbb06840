/*
 * All states, each once. A line of the machine's memory is kept once for all states that have it, under a number; a state is the list of
 * lines in which it differs from the first state, with their numbers. So two states are the same if and only if their lists are: what
 * is looked up is compared in full, and nothing depends on a hash.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "explore.h"

#define LINE_BITS     11u       /* in an element of a list, the others are the number of what is in it */
#define CONTENTS_MAX  (1u << (32 - LINE_BITS))
#define ROOM          (24UL << 30)      /* of addresses: memory is taken as it is written */

_Static_assert(LINES_MAX == 1u << LINE_BITS, "a line's number fits");

static u64 (*contents)[LINE_WORDS];
static u32 nr_contents, *contents_table;
static u32 first[LINES_MAX];            /* the first state */
static u32 now[LINES_MAX];              /* the one that was entered */
static u32 *lists, *states_table;
static u64 lists_used, *states, nr_states, table_size;

void *states_room(u64 bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    BUG_ON(p == MAP_FAILED);
    return p;
}

static bool same_line(const u64 *a, const u64 *b)
{
    u64 differ = 0;

    for (unsigned i = 0; i < LINE_WORDS; i++)
        differ |= a[i] ^ b[i];
    return !differ;
}

static u64 mix(u64 a, u64 b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15UL;
    return a ^ a >> 32;
}

/* The number of what is in a line. */
static u32 content_of(const u64 *line)
{
    u64 hash = 0;
    u32 at;

    for (unsigned i = 0; i < LINE_WORDS; i++)
        hash = mix(hash, line[i]);
    for (at = (u32)hash % (2 * CONTENTS_MAX); contents_table[at]; at = (at + 1) % (2 * CONTENTS_MAX))
        if (same_line(contents[contents_table[at]], line))
            return contents_table[at];
    if (++nr_contents == CONTENTS_MAX)
        failed("there are more contents of lines than numbers for them");
    memcpy(contents[nr_contents], line, sizeof(contents[0]));
    contents_table[at] = nr_contents;
    return nr_contents;
}

void states_init(void)
{
    contents = states_room(sizeof(contents[0]) * CONTENTS_MAX);
    contents_table = states_room(sizeof(u32) * 2 * CONTENTS_MAX);
    lists = states_room(ROOM);
    states = states_room(sizeof(u64) * (1UL << 31));
    table_size = 1UL << 16;
    states_table = states_room(table_size * sizeof(u32));
    for (unsigned i = 0; i < nr_lines; i++)
        first[i] = now[i] = content_of(machine_line[i]);
}

u64 states_count(void) { return nr_states; }
u64 states_bytes(void) { return lists_used * 4 + nr_states * 8 + table_size * 4 + nr_contents * 68UL; }

static u64 hash_list(const u32 *list, u64 n)
{
    u64 hash = n;

    for (u64 i = 0; i < n; i++)
        hash = mix(hash, list[i]);
    return hash;
}

static const u32 *list_of(u32 state, u64 *n)
{
    *n = states[state + 1] - states[state];
    return lists + states[state];
}

static void grow(void)
{
    u64 size = table_size * 4;
    u32 *bigger = states_room(size * sizeof(u32));

    for (u64 s = 0; s < nr_states; s++) {
        u64 n, at;
        const u32 *list = list_of((u32)s, &n);

        for (at = hash_list(list, n) & (size - 1); bigger[at]; at = (at + 1) & (size - 1))
            ;
        bigger[at] = (u32)s + 1;
    }
    munmap(states_table, table_size * sizeof(u32));
    states_table = bigger;
    table_size = size;
}

u32 state_here(bool *is_new)
{
    u32 *list = lists + lists_used;
    u64 n = 0, at;

    for (unsigned i = 0; i < nr_lines; i++) {
        u32 c = same_line(machine_line[i], contents[now[i]]) ? now[i] : content_of(machine_line[i]);

        if (c != first[i])
            list[n++] = c << LINE_BITS | i;
    }
    *is_new = false;
    for (at = hash_list(list, n) & (table_size - 1); states_table[at]; at = (at + 1) & (table_size - 1)) {
        u64 other_n;
        const u32 *other = list_of(states_table[at] - 1, &other_n);

        if (other_n == n && !memcmp(other, list, n * sizeof(*list)))
            return states_table[at] - 1;
    }
    *is_new = true;
    states_table[at] = (u32)nr_states + 1;
    states[nr_states++] = lists_used;
    lists_used += n;
    states[nr_states] = lists_used;
    if (nr_states * 2 > table_size)
        grow();
    return (u32)nr_states - 1;
}

void state_enter(u32 state)
{
    u64 n;
    const u32 *list = list_of(state, &n);

    memcpy(now, first, nr_lines * sizeof(*now));
    for (u64 i = 0; i < n; i++)
        now[list[i] & (LINES_MAX - 1)] = list[i] >> LINE_BITS;
    state_back();
}

void state_back(void)
{
    for (unsigned i = 0; i < nr_lines; i++)
        if (!same_line(machine_line[i], contents[now[i]]))
            memcpy(machine_line[i], contents[now[i]], sizeof(contents[0]));
}
