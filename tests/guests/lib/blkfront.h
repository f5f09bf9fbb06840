/*
 * A disk, by the split block device (public/io/blkif.h). Requests run side by side, each in a slot with a buffer of its
 * own: a request reads or writes up to BLK_BUFFER sectors of the buffer, from any of its first eight on.
 */
#ifndef GUEST_BLKFRONT_H
#define GUEST_BLKFRONT_H

#include "abi.h"

#define BLK_SLOTS    32
#define BLK_SEGMENTS 11
#define BLK_BUFFER   (BLK_SEGMENTS * 8)   /* sectors */
#define SECTOR       512

enum { BLK_READ, BLK_WRITE, BLK_BARRIER, BLK_FLUSH };

struct blk_segment {
    grant_ref_t ref;
    u8 first, last;   /* sectors of the page */
};

/* In the layout of this kernel's word size: a 32-bit one aligns the 64-bit members to 4. */
struct blk_request {
    u8 operation, nr_segments;
    u16 handle;
    u64 id;
    u64 sector;
    struct blk_segment segment[BLK_SEGMENTS];
};

bool blk_init(void);             /* connects the first disk; false if there is none */
extern u64 blk_sectors;
extern unsigned blk_stuck;       /* pages that a backend still had mapped when it said it was done */
bool blk_flushes(void);          /* the backend takes BLK_FLUSH */

u8 *blk_sector(unsigned slot, unsigned sector);   /* of the slot's buffer */
/* A request for count sectors from sector on, to or from the buffer's sector first and on; it may be spoilt then. */
struct blk_request blk_request(unsigned slot, u8 operation, u64 sector, unsigned first, unsigned count);
void blk_submit(const struct blk_request *request);
void blk_poll(void);             /* takes the responses that came */
bool blk_busy(unsigned slot);
int blk_status(unsigned slot);   /* the last response: 0 or a negative number */

#endif
