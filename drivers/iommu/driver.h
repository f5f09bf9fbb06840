/*
 * What the two drivers and their frame share. A unit takes commands of 16 bytes from a ring in memory, and the last command of each batch
 * writes a number to memory, which is waited for: never for ever. All functions that answer bool are false if the unit did not answer, and
 * then have said so.
 */
#ifndef IOMMU_DRIVER_H
#define IOMMU_DRIVER_H

#include <pvisor/iommu.h>
#include <pvisor/irq.h>
#include <pvisor/spinlock.h>
#include "table.h"

#define IO_QUEUE_ORDER 0                        /* one frame: 256 commands */
#define IO_QUEUE_LENGTH 256u
#define IO_FAULTS_ORDER 4                       /* a byte for each of 65,536 ids */

struct io_command { u64 low, high; };

struct io_unit {
    const struct iommu_unit *info;
    volatile void *registers;
    u32 size;                                   /* of their place, in bytes */
    spinlock_t lock;                            /* RANK_LEAF: the ring */
    struct io_command *queue;
    u32 tail;                                   /* of the ring: the next command's number */
    u64 *answer;                                /* what the unit writes last, and how often that was waited for */
    u32 waits;
    bool running;                               /* it translates */
    u8 *faults;                                 /* how many each id had lately, or that it is silenced */
    u64 faults_since;                           /* when that was begun */
    u64 *devices;                               /* VT-d: the root table; AMD: the device table */
    u64 *common;                                /* VT-d: contexts of all buses without a function that is set apart */
    u64 *log;                                   /* AMD: where events are written */
    bool remaps;                                /* AMD: interrupts go by functions' entries */
    u64 capabilities, extended;                 /* VT-d's two registers */
};

/* What all units can do together. */
struct io_features {
    u8 levels;                                  /* a bit for each number of levels that tables may have */
    u8 largest;                                 /* level of the largest leaf */
    u8 passes;                                  /* they can leave requests untranslated for some devices */
    bool coherent;                              /* they read what is in caches */
    bool remaps, remaps_x2apic;                 /* interrupts, and with 32 bits of an APIC id */
    bool caches_absent;                         /* they remember what was not there: flush after additions too */
    bool snoops;                                /* they can have all requests look into the CPUs' caches */
    u32 domains;                                /* how many numbers of domains they tell apart, 0 among them */
};

/* What a device's requests are: translated by these tables, or (tables NULL) passed on as they are. */
struct io_target {
    const struct io_tables *tables;
    u8 levels;
    u16 domain;                                 /* under this number the unit keeps translations */
};

/*
 * A table of interrupts: 2^order entries, which are free, or an irq's. The first bit of an entry says whether it lets interrupts through.
 * VT-d's entries say whose messages may use them, and all units have one table. AMD's do not: so the table is for one source's messages.
 */
struct io_interrupts {
    struct io_interrupts *next;
    struct io_unit *unit;                       /* that reads it; NULL: all do */
    u16 source;                                 /* whose messages it is for, if not anybody's */
    u8 order;
    void *entries;
    u32 used[];                                 /* a bit for each entry that is an irq's */
};

/* How interrupts are remapped. */
struct io_remapping {
    bool x2apic;                                /* CPUs have names of 32 bits */
    const struct io_interrupts *common;         /* the table of all units; NULL: each source gets its own */
};

struct io_driver {
    const char *name;
    const struct io_format *format;
    const struct io_format *snooping;           /* where units can; NULL: `format` does that */
    size_t registers;                           /* bytes, at least */
    u32 tail_register;                          /* where commands up to end, in bytes */
    u8 source_order;                            /* each source has a table of its own, of 2^this many interrupts; 0: all have one */
    u8 interrupt_bytes[2];                      /* of an entry, as a power of two: with names of 8 and of 32 bits */
    bool lines_need_eoi;                        /* an IO-APIC's entry has no room for the vector that the CPU gets */
    /* Looks at what the unit is; false: it cannot be used, and the log says why. */
    bool (*probe)(struct io_unit *u, struct io_features *f);
    /*
     * Quiets what the firmware left, gives the unit its ring and tables, and all functions this target, and has it translate; and remap,
     * unless r is NULL: from then on no interrupt that names a CPU itself comes through, and none of a source without a table.
     */
    bool (*start)(struct io_unit *u, const struct io_target *all, const struct io_remapping *r);
    void (*stop)(struct io_unit *u);
    /* The function's requests go by another target; of what went by the old nothing is under way. -ENOMEM: all is as it was; -EIO. */
    int (*assign)(struct io_unit *u, u16 id, const struct io_target *to);
    struct io_command (*wait)(maddr_t answer, u32 value);
    struct io_command (*flush_domain)(u16 domain);
    /* A source's interrupts go by its table from here on. NULL: all have one. */
    bool (*attach)(const struct io_interrupts *t);
    /* An entry that lets nothing through, or is this irq's already, says where it goes, all at once. */
    void (*set_interrupt)(void *entry, const struct irq_route *r, const struct irq_source *from, bool x2apic);
    struct msi_message (*message)(u16 index, struct irq_route r);
    struct io_command (*flush_interrupt)(const struct io_interrupts *t, u16 index);
    /* What the unit found wrong with requests: each is an io_fault(). */
    void (*poll)(struct io_unit *u);
    /* Nothing more is to be said of what this function does wrong. */
    bool (*silence)(struct io_unit *u, u16 id);
};
extern const struct io_driver vtd_driver, amd_driver;

/* Hands the unit n commands, fewer than the ring has, and waits until it has carried them out. */
bool io_submit(struct io_unit *u, const struct io_command *commands, unsigned n) must_check;
/* Until the register's bits of mask are as `want` has them: false after a second, and the log says what was waited for. */
bool io_wait_register(struct io_unit *u, u32 reg, u32 mask, u32 want, const char *what) must_check;
/* Says why the unit cannot be used; false. */
bool io_cannot(const struct io_unit *u, const char *why);
/* Whether the log may have a line about what a unit reports, which devices can have it do at any rate; to be asked once for each line. */
bool io_may_tell(void);
/* Says that a function's request was refused: what kind, of which address (0: none is told), why. */
void io_fault(struct io_unit *u, u16 id, const char *what, u64 address, const char *why);

#ifdef HOST_TEST    /* units are the test program's */
u32 io_read32(const struct io_unit *u, u32 reg);
u64 io_read64(const struct io_unit *u, u32 reg);
void io_write32(struct io_unit *u, u32 reg, u32 v);
void io_write64(struct io_unit *u, u32 reg, u64 v);
#else
static inline u32 io_read32(const struct io_unit *u, u32 reg) { return *(volatile u32 *)((volatile u8 *)u->registers + reg); }
static inline u64 io_read64(const struct io_unit *u, u32 reg) { return *(volatile u64 *)((volatile u8 *)u->registers + reg); }
static inline void io_write32(struct io_unit *u, u32 reg, u32 v) { *(volatile u32 *)((volatile u8 *)u->registers + reg) = v; }
static inline void io_write64(struct io_unit *u, u32 reg, u64 v) { *(volatile u64 *)((volatile u8 *)u->registers + reg) = v; }
#endif

#endif
