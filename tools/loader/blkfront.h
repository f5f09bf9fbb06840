/* The domain's disks, to be read: one at a time is connected to its backend. */
#ifndef LOADER_BLKFRONT_H
#define LOADER_BLKFRONT_H

#include "fs.h"

/* Names of the disks in the domain's configuration, device numbers of xenstore, in the order of these; how many. */
#define DISKS_MOST 16u
unsigned blkfront_list(char ids[DISKS_MOST][16]);
/* Connects the disk. It must be closed before a kernel starts, which connects anew. */
int blkfront_open(const char *id, struct disk *d, struct image_error *err);
void blkfront_close(struct disk *d);

#endif
