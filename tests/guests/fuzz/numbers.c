/* Random numbers, and values of all kinds: mostly what this domain holds, sometimes nearly that, sometimes nothing of the kind. */
#include "fuzz.h"
#include "clock.h"
#include "events.h"
#include "test.h"

struct fuzz fuzz[MAX_FUZZERS];
struct model model;

/* From before the random calls, which write to the shared page too, in which the present one is. */
static struct vcpu_time_info first_clock;

u64 fuzz_now(void) { return scale_tsc(&first_clock, rdtsc()); }

u64 number_word(const char *word_, u64 otherwise)
{
    const char *s = cmdline_value(word_);
    u64 n = 0;

    if (!s)
        return otherwise;
    for (; *s >= '0' && *s <= '9'; s++)
        n = n * 10 + (u64)(*s - '0');
    return n;
}

/* ---- Numbers ---- */

/* splitmix64's finish: neighbours have nothing in common. */
static u64 mixed(u64 x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

void seed_step(struct fuzz *z, u64 seed, u64 step)
{
    z->state = mixed(mixed(seed * MAX_FUZZERS + z->who + 1) + step * 0x9e3779b97f4a7c15ULL) | 1;
    z->step = step;
}

u64 next(struct fuzz *z)
{
    z->state ^= z->state << 13;
    z->state ^= z->state >> 7;
    z->state ^= z->state << 17;
    return z->state;
}

unsigned below(struct fuzz *z, unsigned n) { return (unsigned)((u32)(next(z) >> 20) % n); }
bool once_in(struct fuzz *z, unsigned n) { return !below(z, n); }

/* ---- What we hold ---- */

bool model_init(void)
{
    word frame;
    u64 status_frame;
    GUEST(gnttab_setup_table) op = { .dom = DOMID_SELF, .nr_frames = 1, .frame_list = P(&frame) };
    GUEST(gnttab_get_status_frames) status = { .dom = DOMID_SELF, .nr_frames = 1, .frame_list = P(&status_frame) };

    first_clock = time_info(0);
    if (!CHECK_OK(grant_table_op(GNTTABOP_setup_table, &op, 1)) || !CHECK_OK(map_at(window(200), frame, PTE_DATA)))
        return false;
    model.fixed.grants = window(200);
    model.fixed.grants2 = window(200);
    if (!CHECK_OK(grant_table_op(GNTTABOP_set_version, &(struct gnttab_set_version){ 2 }, 1)) ||
        !CHECK_OK(grant_table_op(GNTTABOP_get_status_frames, &status, 1)))
        return false;
    model.status_frame = (word)status_frame;
    for (unsigned i = 0; i < NR_VICTIMS; i++)
        model.fixed.victim[i] = table_alloc();
    for (unsigned i = 0; i < NR_LOOSE; i++)
        model.loose[i] = p2m[spare_pfn(i)];
    for (unsigned i = 0; i < NR_FOREIGN; i++)
        model.foreign[i] = foreign_frame(i);
    for (unsigned i = 0; i < NR_OTHERS; i++)
        model.other[i] = DOMID_INVALID;
    model.fixed.roots[0] = current_base();
    model.fixed.roots[1] = virt_to_mfn(copy_top());
    return true;
}

void hold_port(struct fuzz *z, u32 port) { model.port[below(z, NR_HELD)] = port; }
void hold_map(struct fuzz *z, struct held_map m) { model.map[below(z, NR_HELD)] = m; }

unsigned victim_nr(struct fuzz *z) { return below(z, NR_VICTIMS); }
void *some_victim(struct fuzz *z) { return model.fixed.victim[victim_nr(z)]; }
void *slot(struct fuzz *z) { return window(z->who * NR_SLOTS + below(z, NR_SLOTS)); }

word some_mfn(struct fuzz *z)
{
    switch (below(z, 16)) {
    case 0: return model.foreign[below(z, NR_FOREIGN)];
    case 1: return harmless_frame(z, (word)next(z) >> below(z, sizeof(word) * 8));
    case 2 ... 4: return model.loose[below(z, NR_LOOSE)];
    case 5: return once_in(z, 2) ? (word)start_info->shared_info >> 12 : model.status_frame;
    default: return virt_to_mfn(some_victim(z));
    }
}

u64 some_pte(struct fuzz *z)
{
    static const u64 flags[] = { PTE_READ, PTE_DATA, PTE_TABLE, PTE_READ | PTE_US, PTE_P, 0, PTE_DATA | PTE_US, PTE_TABLE };
    u64 e = pte_make(some_mfn(z), flags[below(z, ARRAY_SIZE(flags))]);

    if (once_in(z, 8))
        e ^= 1ULL << below(z, 64);
    if (is_vital(pte_mfn(e)))
        return 0;
    return format.pte_bytes == 4 && !once_in(z, 50) ? (u32)e : e;
}

domid_t some_other(struct fuzz *z)
{
    domid_t other = model.other[below(z, NR_OTHERS)];

    for (unsigned i = 0; i < NR_OTHERS && other == DOMID_INVALID; i++)
        other = model.other[i];

    /* A domU guesses: the control domain, and those that were made before and after it. */
    if (other == DOMID_INVALID && !is_dom0())
        return (domid_t)below(z, 8);
    return other;
}

domid_t some_domain(struct fuzz *z)
{
    static const domid_t special[] = { 0, DOMID_IO, DOMID_XEN, DOMID_INVALID, 0x7fff, 0x8000, 77, 0xffff };

    if (once_in(z, 16))
        return special[below(z, ARRAY_SIZE(special))];
    return once_in(z, 4) ? some_other(z) : DOMID_SELF;
}

word some_pointer(struct fuzz *z, const void *buffer)
{
    static const word bad[] = { 0, 0x1000, ~(word)0, ~(word)0xfff, (word)1 << (sizeof(word) * 8 - 1) };

    if (once_in(z, 40))
        return once_in(z, 2) ? format.hv_start : bad[below(z, ARRAY_SIZE(bad))];
    return P(buffer) + (once_in(z, 60) ? 4096 - below(z, 64) : 0);
}

static u64 any_value(struct fuzz *z)
{
    switch (below(z, 8)) {
    case 0 ... 2: return below(z, 12);
    case 3: return some_mfn(z);
    case 4: return P(z->scratch) + 2048;
    case 5: return some_domain(z);
    case 6: return next(z) >> below(z, 64);
    default: return 0;
    }
}

u64 some_value(struct fuzz *z)
{
    u64 v = any_value(z);

    return names_vital(v) ? 0 : v;
}

/* A structure of whatever layout. */
void scribble(struct fuzz *z, unsigned bytes)
{
    if (once_in(z, 2))
        for (unsigned i = 0; i < bytes / 8; i++)
            z->buffer[i] = some_value(z);
    else
        for (unsigned i = 0; i < bytes / 4; i++)
            ((u32 *)z->buffer)[i] = (u32)some_value(z);
}

static u32 some_port(struct fuzz *z)
{
    return once_in(z, 8) ? below(z, 40) : model.port[below(z, NR_HELD)];
}

static u64 small_value(struct fuzz *z, char kind)
{
    switch (kind) {
    case 'b': return below(z, 2);
    case 'c': return below(z, 4);
    case 'f': return below(z, 16);
    case 'i': return below(z, 26);
    case 'n': return below(z, 9);
    case 'N': return once_in(z, 4) ? below(z, 700) : below(z, 40);
    case 'o': return once_in(z, 2) ? below(z, 0x10000) : 0x3f0 + below(z, 32);
    case 'O': return once_in(z, 8) ? below(z, 20) : 0;
    case 'I': return below(z, 48);
    default: return 0;
    }
}

/*
 * Kinds of values:
 *   #  the command           !  the control calls' version     B  the buffer's address       z  0
 *   a  a list's address (in the buffer)       s  an address that may be written to        e  a window address
 *   b  0 or 1     c  a CPU      f  four bits    i  a virtual interrupt      I  a physical one    n  0 to 8      N  up to 700
 *   o  an I/O port              O  an order     p  a port         q  the same, which the call gives
 *   d  a domain   D  another    k  one to control, and 0 at times        v  a vCPU       V  one that makes no calls
 *   g  a grant reference        h  a handle     m  a frame        M  a loose one         A  the frame's number without a frame
 *   t  a time to come           r  anything
 */
u64 value_of(struct fuzz *z, struct call *c, char kind)
{
    switch (kind) {
    case '#': return c->command->cmd;
    case 'B': return !c->command->alone ? some_pointer(z, c->buffer) : once_in(z, 20) ? format.hv_start : P(c->buffer);
    case 'a': return P(c->buffer) + 2048;
    case 's': return once_in(z, 30) ? format.hv_start : P(z->scratch) + below(z, 64) * 8;
    case 'e': return P(slot(z));
    case 'p': case 'q': return some_port(z);
    case 'd': return some_domain(z);
    case 'D': return some_other(z);
    case 'k': return once_in(z, 20) ? 0 : some_other(z);
    case 'v': return below(z, once_in(z, 8) ? 40 : model.vcpus);
    case 'V': return model.vcpus > model.fuzzers ? model.fuzzers + below(z, model.vcpus - model.fuzzers) : 33;
    case 'g': return FIRST_REF + below(z, once_in(z, 40) ? 4096 : NR_REFS);
    case 'h': return once_in(z, 8) ? below(z, 20) : model.map[below(z, NR_HELD)].handle;
    case 'm': return some_mfn(z);
    case 'M': return model.loose[below(z, NR_LOOSE)];
    case 'A': return start_info->nr_pages + below(z, 1000);
    case 't': return fuzz_now() + below(z, 2000000);
    case 'r': return some_value(z);
    default: return small_value(z, kind);
    }
}
