/* The store: values by path, through the ring that a domU shares with the store's daemon. Paths without a leading slash
 * count from the domain's own directory. One request at a time; the wait for its answer has no end. */
#ifndef GUEST_XENSTORE_H
#define GUEST_XENSTORE_H

#include "abi.h"

#define STORE_WATCHES 32

void store_init(void);                          /* domU only */
/* The value, or NULL and then store_error() names the error. Valid until the next call. */
const char *store_read(const char *path);
u64 store_number(const char *path, u64 otherwise); /* a decimal value */
bool store_write(const char *path, const char *value);
bool store_remove(const char *path);
/* The first name in a directory, NULL if there is none. Valid until the next call. */
const char *store_first(const char *path);
const char *store_error(void);                  /* as the daemon names it: ENOENT */

/* Watches a path and all below it, under a number below STORE_WATCHES. A new watch fires at once. */
bool store_watch(const char *path, unsigned nr);
bool store_fired(unsigned nr);                  /* since the last look */

#endif
