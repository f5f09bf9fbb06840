/* Sets of 64-bit numbers kept as sorted ranges: I/O memory frames, I/O ports, interrupts that a domain may use. */
#ifndef PVISOR_RANGESET_H
#define PVISOR_RANGESET_H

#include <pvisor/types.h>

struct rangeset;

struct rangeset *rangeset_new(void);                 /* NULL: no memory */
void rangeset_free(struct rangeset *r);              /* NULL is allowed */
int rangeset_add(struct rangeset *r, u64 first, u64 last);      /* inclusive; 0 or -ENOMEM */
int rangeset_remove(struct rangeset *r, u64 first, u64 last);
bool rangeset_is_empty(const struct rangeset *r);               /* true for NULL */
bool rangeset_contains(const struct rangeset *r, u64 first, u64 last);  /* the whole range; false for NULL */
bool rangeset_overlaps(const struct rangeset *r, u64 first, u64 last);  /* any of the range; false for NULL */

#endif
