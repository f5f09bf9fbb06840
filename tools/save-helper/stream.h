/*
 * The stream that the tools of Xen write and read for a saved domain, version 3: xen-project/xen, docs/specs/libxc-migration-stream.pandoc.
 * Two headers, records, of which the last is END. A non-PAE domain's differs from a PAE one's in pt_levels, and in what its tables' pages
 * are.
 *
 * Whatever goes wrong here ends the program, by fail().
 */
#ifndef SAVE_HELPER_STREAM_H
#define SAVE_HELPER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream_head {
    uint64_t marker;                /* all ones */
    uint32_t id, version;           /* big endian */
    uint16_t options;               /* big endian; bit 0: so is the rest */
    uint16_t reserved16;
    uint32_t reserved32;
    uint32_t type;                  /* of the domain */
    uint16_t page_shift, reserved_domain;
    uint32_t xen_major, xen_minor;  /* that it is from */
};
#define STREAM_ID         0x58454E46u
#define STREAM_VERSION    3u
#define STREAM_BIG_ENDIAN 1u
#define DOMAIN_PV         1u

enum record_type {
    REC_END = 0, REC_PAGE_DATA = 1, REC_PV_INFO = 2, REC_P2M_FRAMES = 3, REC_VCPU_BASIC = 4, REC_VCPU_EXTENDED = 5, REC_VCPU_XSAVE = 6,
    REC_SHARED_INFO = 7, REC_TSC_INFO = 8, REC_VCPU_MSRS = 12, REC_VERIFY = 13, REC_STATIC_DATA_END = 16,
    REC_CPUID_POLICY = 17, REC_MSR_POLICY = 18,
};
#define REC_OPTIONAL 0x80000000u    /* who does not know it may leave it out */

struct record_head { uint32_t type, length; };

struct pv_info { uint8_t width, levels, reserved[6]; };
#define NONPAE_WIDTH  4
#define NONPAE_LEVELS 2

/* Followed by count words that are numbers of frames below and kinds above, and the pages of those kinds that have one. */
struct page_data { uint32_t count, reserved; uint64_t word[]; };
#define PAGE_PFN(word)         ((word) & ((1ULL << 52) - 1))
#define PAGE_KIND(word)        ((uint32_t)((word) >> 32) & 0xf0000000u)
#define PAGE_WORD(pfn, kind)   ((uint64_t)(kind) << 32 | (pfn))
#define MAX_BATCH              1024u

/* The frames, by the guest's own numbers, that make up its list of frames from number start to number end. */
struct p2m_frames { uint32_t start, end; uint64_t pfn[]; };

struct vcpu_head { uint32_t vcpu, reserved; };

struct tsc_info { uint32_t mode, khz; uint64_t nsec; uint32_t incarnation, reserved; };

struct record {
    uint32_t type, length;
    uint8_t *data;          /* the reader's to free */
};

/* Is it the stream of a non-PAE domain? From its first bytes, which stay in fd to be read. */
bool stream_is_non_pae(int fd);

void stream_begin(int fd);
void stream_put_head(uint32_t xen_version);
/* For handlers of signals: who writes from now on fails. fd can be read alone. */
void stream_give_up(int fd);
void stream_put(uint32_t type, const void *head, size_t head_size, const void *body, size_t body_size);
/* what: for the log, if there are not so many. */
void stream_get_bytes(void *bytes, size_t size, const char *what);
/* Says which release the stream is from. */
void stream_get_head(void);
struct record stream_get(void);

#endif
