/*
 * What we live in: our code, stacks, arguments and page tables. No call may name such a frame, or we would shoot ourselves sooner or
 * later (a number of 17 bits is one of ours as often as not), and an end of ours could not be told from a fault of the hypervisor's.
 * So that it can be told for certain, the entries that map it, the code, and the data that stay as they are from here on, are noted before
 * the first call and compared whenever something unexpected comes: what is as it was and faults nevertheless is the hypervisor's doing.
 */
#include "fuzz.h"
#include "console.h"
#include "events.h"
#include "string.h"
#include "test.h"
#include "traps.h"

#define VITAL_LIMIT (1u << 20)      /* frames: 4 GiB */
#define ARENA_LIMIT 4096            /* pages of the linear mapping */
static u64 vital[VITAL_LIMIT / 64];
static pte_raw was_mapped[ARENA_LIMIT];
static char changed[120];

/* What stays as it is, and its sum. */
static struct kept { const char *name; const void *at; word bytes; u64 sum; } kept[6];
static unsigned nr_kept;

extern u8 _start[];
extern const struct test *const tests_start[];

bool is_vital(u64 m) { return m < VITAL_LIMIT && vital[m / 64] >> (m % 64) & 1; }

static void vital_mark(word m, bool on)
{
    if (m < VITAL_LIMIT)
        vital[m / 64] = (vital[m / 64] & ~(1ULL << m % 64)) | (u64)on << m % 64;
}

static bool is_scratch(u32 half)
{
    for (unsigned i = 0; i < MAX_FUZZERS; i++)
        if (fuzz[i].scratch && half - (u32)P(fuzz[i].scratch) < 4096)
            return true;
    return false;
}

bool names_memory(u32 half)
{
    return half - (u32)VIRT_BASE < arena_end << 12 && !is_scratch(half);
}

bool names_vital(u64 v)
{
    return is_vital(v) || is_vital((u32)v) || is_vital(v >> 32) || is_vital(v >> 12) || is_vital((u32)v >> 12) ||
           is_vital(v >> 44) || names_memory((u32)v) || names_memory((u32)(v >> 32));
}

word harmless_frame(struct fuzz *z, word mfn) { return names_vital(mfn) ? virt_to_mfn(some_victim(z)) : mfn; }

static pte_raw entry_now(word pfn) { return (pte_raw)(entry_of(pfn_to_virt(pfn), 1) & ~(PTE_A | PTE_D)); }

static u64 sum_of(const struct kept *k)
{
    u64 sum = 0;

    for (word i = 0; i < k->bytes / sizeof(word); i++)
        sum = (sum << 7 | sum >> 57) ^ ((const word *)k->at)[i];
    return sum;
}

static void keep(const char *name, const void *at, word bytes)
{
    struct kept *k = &kept[nr_kept++];

    *k = (struct kept){ name, at, bytes, 0 };
    k->sum = sum_of(k);
}

void vital_init(void)
{
    for (word pfn = 0; pfn < start_info->nr_pages; pfn++)
        vital_mark(p2m[pfn], true);
    for (unsigned i = 0; i < NR_VICTIMS; i++)
        vital_mark(virt_to_mfn(model.fixed.victim[i]), false);
    for (unsigned i = 0; i < NR_LOOSE; i++)
        vital_mark(model.loose[i], false);
    for (word pfn = 0; pfn < min(arena_end, (word)ARENA_LIMIT); pfn++)
        was_mapped[pfn] = entry_now(pfn);
    keep("the code", _start, P(tests_start) - P(_start));
    keep("the trap table", trap_table, sizeof(trap_table));
    keep("start_info", start_info, 4096);
    keep("the list of frames", p2m, start_info->nr_pages * sizeof(word));
    keep("the list of what no call may name", vital, sizeof(vital));
    keep("the part of the model that stays", &model.fixed, sizeof(model.fixed));
}

const char *vital_changed(void)
{
    for (word pfn = 0; pfn < min(arena_end, (word)ARENA_LIMIT); pfn++)
        if (entry_now(pfn) != was_mapped[pfn] && !is_scratch((u32)P(pfn_to_virt(pfn)))) {
            snprintf(changed, sizeof(changed), "the entry of %p is %llx and was %llx", pfn_to_virt(pfn),
                     (unsigned long long)entry_now(pfn), (unsigned long long)was_mapped[pfn]);
            return changed;
        }
    for (const struct kept *k = kept; k < kept + nr_kept; k++)
        if (sum_of(k) != k->sum) {
            snprintf(changed, sizeof(changed), "%s is not as it was", k->name);
            return changed;
        }
    return NULL;
}

void say_step(void)
{
    printf("     vCPU %u, step %llu\n", this_vcpu(), (unsigned long long)fuzz[this_vcpu() % MAX_FUZZERS].step);
}

/* The harness catches what the first vCPU's test does not. */
static bool is_caught(void) { return catch_depth() > (this_vcpu() == 0); }

/*
 * Breakpoints and single steps that random calls have set, NMIs that they sent, vectors of software that they registered, selectors that
 * they took the descriptors of away.
 */
static bool is_expected(struct trap_regs *r)
{
    if (r->vector != VECTOR_DB && r->vector != 2 && r->vector != VECTOR_SYSENTER && (r->vector != VECTOR_FAILSAFE || is_caught()))
        return false;
    if (r->vector == VECTOR_DB)
        r->flags |= 1u << 16;       /* RF: the instruction runs */
    if ((r->cs & 3) == 3)
        return user_goes_on(r);
    r->flags &= ~EFLAGS_TF;
    return true;
}

bool fuzz_trap(struct trap_regs *r)
{
    const char *why;

    if (is_expected(r))
        return true;
    if (is_caught())
        return false;
    trap_hook = NULL;
    why = vital_changed();
    printf("PVTEST whose fault: %s%s\n", why ? "the fuzzer's, " : "the hypervisor's, what the kernel lives in is as it was", why ?: "");
    say_step();
    print_regs(r);
    panic("trap %u at %lx, error %lx, address %lx", (unsigned)r->vector, (unsigned long)r->ip, (unsigned long)r->error,
          (unsigned long)vcpu_info(this_vcpu())->arch.cr2);
}

