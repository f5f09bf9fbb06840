/*
 * Locks, for Eva. Until a lock is taken others may change all that it protects: that becomes any legal state (lock_taken()). When it is
 * given back the state must be legal again (lock_dropped()).
 */
#ifndef ASM_SPINLOCK_H
#define ASM_SPINLOCK_H

#include <asm/x86.h>

void lock_taken(const spinlock_t *l);
void lock_dropped(const spinlock_t *l);

static inline void ticket_lock(spinlock_t *l) { lock_taken(l); }
static inline void ticket_unlock(spinlock_t *l) { lock_dropped(l); }

#endif
