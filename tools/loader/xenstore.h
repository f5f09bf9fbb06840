/* Reading and writing the domain's configuration. Paths without a slash before them are below the domain's own. */
#ifndef LOADER_XENSTORE_H
#define LOADER_XENSTORE_H

#include <pvisor/types.h>

/* False if there is none; value then has the error's name. Values that are too long are cut. */
bool xenstore_read(const char *path, char *value, unsigned room);
/* 0 if it is none, or there is none. */
u64 xenstore_number(const char *path);
/* Names, each with a zero behind it; the length of all, or -1. */
int xenstore_list(const char *path, char *names, unsigned room);
void xenstore_write(const char *path, const char *value);

#endif
