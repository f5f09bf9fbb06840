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

void translate_context(uint32_t id, context_t *c, uint32_t (*other)(uint64_t number, const char *what))
{
    if (!id)
        c->user_regs.edx = other(c->user_regs.edx, "start info, in edx");
    if (c->gdt_ents > MAX_GDT_ENTRIES)
        fail(ERANGE, "vCPU %u has a GDT of %u entries, expected at most %u", id, c->gdt_ents, MAX_GDT_ENTRIES);
    for (unsigned i = 0; i < GDT_FRAMES(c->gdt_ents); i++)
        c->gdt_frames[i] = other(c->gdt_frames[i], "a vCPU's GDT");
}
