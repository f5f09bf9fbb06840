/* Where things are in a mirror (pt/mirror.c). For tests that link the real one. */
#ifndef FAKE_MIRRORS_H
#define FAKE_MIRRORS_H

#include "frames.h"

#define MIRROR_FRAMES(level) ((level) == 1 ? 2u : 8u)
/* The frames of an L2 table's mirror. */
#define MIRROR_L2 2u
#define MIRROR_L3 6u

#endif
