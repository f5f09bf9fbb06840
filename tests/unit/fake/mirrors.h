/* What must be true of the mirrors of a domain's tables (pt/mirror.c), by what its tables say. For tests that link the real one. */
#ifndef FAKE_MIRRORS_H
#define FAKE_MIRRORS_H

#include "frames.h"

#define MIRROR_FRAMES(level) ((level) == 1 ? 2u : 8u)
/* The frames of an L2 table's mirror. */
#define MIRROR_L2 2u
#define MIRROR_L3 6u

/* The first frame of table m's mirror; INVALID_MFN: it has none. */
mfn_t mirror_of(const struct domain *d, mfn_t m);
/* Each table of d's has a mirror, which says what the table says, and no other frame has. Nothing of formats that are not mirrored. */
void expect_mirrors(const struct domain *d);

#endif
