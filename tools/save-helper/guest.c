#include "guest.h"

#include <errno.h>
#include <stdlib.h>

#include "talk.h"

uint32_t *numbers(uint32_t nr, uint32_t value)
{
    uint32_t *p = malloc(nr * sizeof(*p));

    if (!p)
        fail(ENOMEM, "no memory for %u frames' numbers", nr);
    for (uint32_t i = 0; i < nr; i++)
        p[i] = value;
    return p;
}

struct guest guest_with(uint32_t nr)
{
    return (struct guest){ .nr_pfns = nr, .frame = numbers(nr, NO_FRAME), .kind = numbers(nr, XEN_DOMCTL_PFINFO_XTAB) };
}

void in_batches(const struct guest *g, bool (*is_one)(uint32_t pfn), void (*fn)(const uint32_t *pfns, unsigned nr))
{
    uint32_t pfns[MAX_BATCH];
    unsigned nr = 0;

    for (uint32_t pfn = 0; pfn < g->nr_pfns; pfn++) {
        if (!is_one(pfn))
            continue;
        pfns[nr++] = pfn;
        if (nr == MAX_BATCH) {
            fn(pfns, nr);
            nr = 0;
        }
    }
    if (nr)
        fn(pfns, nr);
}
