/*
 * Text on its way to a slow line. A line of text goes in whole or not at all: when there is no room for one, lines are
 * dropped until half the ring is free again, and in their place comes one that says how many.
 */
#ifndef PVISOR_TXRING_H
#define PVISOR_TXRING_H

#include <pvisor/types.h>

#define TXRING_SIZE (32u << 10)
/* Writers that can wait leave the rest of the ring to those who cannot. With so much in it a line is taken even after some were lost. */
#define TXRING_CROWDED (TXRING_SIZE / 2)

struct txring {
    u32 in, out;       /* free-running; what is between them waits */
    u32 lost;          /* lines dropped that have not been told of yet */
    bool mid_line;     /* the last text had no newline at its end */
    bool dropping;     /* and was dropped, or cut */
    char *buf;         /* TXRING_SIZE bytes */
};

/* Adds text; \n becomes \r\n on the way. */
void txring_put(struct txring *r, const char *s, size_t len);
/* Takes the next character, of the text or of the word about lost lines. False: nothing waits. */
bool txring_get(struct txring *r, char *c);

static inline u32 txring_used(const struct txring *r) { return r->in - r->out; }
/* Nothing waits, and there is no word about lost lines to be said. */
static inline bool txring_is_empty(const struct txring *r)
{
    return r->in == r->out && !r->lost && !(r->dropping && r->mid_line);
}

#endif
