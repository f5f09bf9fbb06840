/* The invariant of frames (pvisor/invariant.h) in a unit test that links the real ones. */
#ifndef FAKE_INVARIANT_H
#define FAKE_INVARIANT_H

#include <pvisor/invariant.h>

/* Before a test's first look. */
void fake_invariant_reset(void);
extern bool fake_may_name_others, fake_grants_map;      /* the functions' answers; false after a reset */

#endif
