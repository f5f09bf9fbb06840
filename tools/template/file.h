/*
 * A template: a saved PV domain, laid out to be loaded quickly and often.
 *
 *     0            struct template_head
 *     PAGE         the pages of data that are not all zeroes, and then the tables', each in the order of the guest's own numbers
 *     then         a byte for each of the guest's numbers of frames: enum content, PINNED
 *     then         records as the tools' stream has them (tools/save-helper/stream.h), but no pages and no END: all that is not memory
 *
 * Entries of tables have the guest's own numbers in place of frames, as in the stream. Frames of zeroes are not in the file, since frames
 * come zeroed. Nor is the guest's list of its frames, which is made anew for each domain.
 */
#ifndef TEMPLATE_FILE_H
#define TEMPLATE_FILE_H

#include "../save-helper/read.h"
#include "../save-helper/state.h"

enum content {
    ABSENT,         /* no frame: ballooned out */
    EMPTY,          /* a frame of zeroes */
    DATA,
    TABLE = 3,      /* of level 1; those of higher levels follow */
    TABLE_4 = 6,
    PINNED = 0x80,  /* beside a table */
};
#define CONTENT(byte) ((byte) & 0x7fu)

struct template_head {
    char magic[16];
    uint8_t id[16];                                     /* by chance: another one has another */
    uint32_t version, nr_pfns, nr_vcpus, records;       /* records: their bytes, with padding */
    uint32_t nr_data, nr_tables;                        /* pages */
    uint64_t target_kib, max_kib;                       /* memory: what the domain is to have, and may have at most */
};
#define TEMPLATE_MAGIC   "pvisor template"
#define TEMPLATE_VERSION 1u
#define MAX_PFNS         (1u << 28)     /* 1 TiB */
#define MAX_KIB          (1ULL << 32)

/* What is special to the two formats of guests. */
struct format {
    struct pv_info pv;
    const struct layout *layout;
    size_t context_size;
};
/* NULL: neither 64-bit nor PAE. */
const struct format *format_of(const struct pv_info *pv);

struct template {
    int fd;
    struct template_head head;
    const uint8_t *content;             /* by the guest's number */
    const struct format *format;
    const struct saved *saved;
};

/* Ends the program if there is anything in the file that a template cannot have. Once in a program's life. */
void template_open(struct template *t, const char *path);
/* size bytes at that place of the file; ends the program if they are not there. */
void template_read(const struct template *t, void *to, size_t size, uint64_t at);

/* Where things are in the file. */
#define DATA_AT ((uint64_t)PAGE)
static inline uint64_t tables_at(const struct template_head *h) { return DATA_AT + (uint64_t)h->nr_data * PAGE; }
static inline uint64_t content_at(const struct template_head *h) { return tables_at(h) + (uint64_t)h->nr_tables * PAGE; }
static inline uint64_t records_at(const struct template_head *h) { return content_at(h) + ((uint64_t)h->nr_pfns + 7) / 8 * 8; }

#endif
