/* Calls that the hypervisor breaks off half-way, because an event is waiting, and that the guest never takes up again. */
#ifndef GUEST_PREEMPT_H
#define GUEST_PREEMPT_H

#include "abi.h"

/*
 * One mmuext_op on ourselves that is to give way as soon as it can, and is not gone on with. Returns 0. Now and then an
 * interrupt comes first, and nothing was begun: look, and try again.
 */
long mmuext_abandoned(unsigned cmd, word arg1);
/* A level-2 table with these entries, all else absent, of which the hypervisor has checked a part. NULL: it never gave way. */
void *half_made_table(const u64 *entries, unsigned first, unsigned nr);

#endif
