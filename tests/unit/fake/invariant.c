/* See invariant.h. */
#include <pvisor/lib.h>
#include "frames.h"
#include "invariant.h"

bool fake_may_name_others, fake_grants_map;
static u64 counts[ARENA_END];

void fake_invariant_reset(void)
{
    memset(counts + ARENA_FIRST, 0, ARENA_NR * sizeof(*counts));
    frames_count_in(counts);
    fake_may_name_others = fake_grants_map = false;
}

bool may_name_others(struct domain *, mfn_t) { return fake_may_name_others; }
bool grants_map(const struct domain *, mfn_t) { return fake_grants_map; }
