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
