/*
 * IOMMUs: what the firmware says of them. A function is named by its segment and its source id, which is what a request
 * of it carries: bus << 8 | device << 3 | function.
 */
#ifndef PVISOR_IOMMU_H
#define PVISOR_IOMMU_H

#include <pvisor/types.h>

#define IOMMU_MAX_UNITS 32
#define IOMMU_MAX_SCOPES 256
#define IOMMU_MAX_REGIONS 64

enum iommu_maker { IOMMU_NONE, IOMMU_VTD, IOMMU_AMD };

struct iommu_unit {
    maddr_t registers;
    u16 segment;
    bool all_others;                        /* it is for each function of the segment that no scope names */
};

/* Functions first to last, both included, are behind this unit. */
enum iommu_scope_kind { IOMMU_FUNCTIONS, IOMMU_IOAPIC, IOMMU_HPET };
struct iommu_scope {
    u8 unit;                                /* index into units */
    u8 kind;                                /* enum iommu_scope_kind */
    u8 id;                                  /* of the IO-APIC or HPET, as in the MADT and the HPET's table */
    u8 passes;                              /* AMD: what else it may send, bits 56 to 63 of the third word of its entry */
    u16 first, last;
    bool has_alias;                         /* their requests carry this source id instead of their own */
    u16 alias;
};

/* Memory that the firmware lets these functions use, whoever owns them: from start to before end, both page-aligned. */
struct iommu_region {
    maddr_t start, end;
    bool any_segment;                       /* AMD's tables name none */
    u16 segment, first, last;
};

struct iommu_info {
    enum iommu_maker maker;                 /* IOMMU_NONE: there is none that can be used, and all else is 0 */
    u8 address_bits;                        /* that a machine address has at most; 0: the tables do not say */
    bool remaps_interrupts;                 /* the firmware allows it */
    bool x2apic_opt_out;                    /* the firmware asks for xAPIC mode */
    u32 nr_units, nr_scopes, nr_regions;
    struct iommu_unit units[IOMMU_MAX_UNITS];
    struct iommu_scope scopes[IOMMU_MAX_SCOPES];
    struct iommu_region regions[IOMMU_MAX_REGIONS];
};

extern struct iommu_info iommu_info;

/*
 * Reads DMAR or IVRS into iommu_info, and logs what is there. Boot, after acpi_init() and pci_init(). A table that makes no sense leaves
 * the machine without IOMMU, with a line that says at which offset and why: half a description would leave devices untranslated.
 */
void iommu_read_firmware(void);

extern bool iommu_on;       /* devices are kept from memory that is not theirs */
/* Looks whether all units can be used, if the command line wants them. After iommu_read_firmware(), before dom0 is built. */
void iommu_init(void);
bool iommu_wanted(void);    /* they can, and it does */
bool iommu_strict(void);    /* dom0-strict: what dom0's devices reach changes all the time */
/*
 * Has them translate: from here on devices, all in dom0's space, reach what was given by iommu_set(), and the firmware's reserved regions.
 * Boot, before dom0 runs. If a unit does not answer they reach all. may_write: whether dom0's CPUs may write these frames of device memory,
 * both ends included: regions where they may not, such as a unit's own registers, are left out.
 */
void iommu_start(bool (*may_write)(u64 first, u64 last));
/*
 * Spaces: what functions reach. Each function is in one; all begin in dom0's. One that is nobody's is in the quarantine, where nothing is
 * reached. The others are made for domains that get devices. Calls for one that is not there do nothing, and it reaches nothing.
 */
#define IOMMU_SPACES 64                             /* as many as a u64 has bits */
enum { SPACE_DOM0, SPACE_NOBODY, SPACE_FIRST_DOMU };
unsigned iommu_nr_spaces(void);                     /* that the units can tell apart, at most IOMMU_SPACES */
int iommu_space_make(unsigned space) must_check;    /* empty; -ENOMEM */
/* No function is in it, and nothing is added any more. From *first on, 0 at first; false: there is more to do. */
bool iommu_space_end(unsigned space, u64 *first) must_check;
/*
 * Its functions may, or may no longer, reach the frames first to before end. In the latter case none does when it returns, and nothing is
 * under way. -ENOMEM, -ERANGE: some of them may be as they were. Any context but interrupts; a lock of rank IOMMU is taken.
 */
int iommu_set(unsigned space, u64 first, u64 end, bool may) must_check;
/* The same for one frame, as `may` says while the lock is held: the last of two such calls has the last word. */
int iommu_follow(unsigned space, u64 frame, bool (*may)(unsigned space, u64 frame)) must_check;
/*
 * The same in two steps, for frames that are let go one after the other. First each one, of a space that is made of single frames; true:
 * units may let its functions there still. Then, for these spaces, a bit for each: now none does, and nothing is under way.
 */
bool iommu_forget(unsigned space, u64 frame) must_check;
void iommu_flush(u64 which);
bool iommu_reaches(unsigned space, u64 frame);
/* Why a function cannot be told from others, or kept from memory: a text; NULL: iommu_move() can do it. */
const char *iommu_why_not(u32 sbdf);
/* From here on the function is in this space, and nothing that it asked for before is under way. -ENOMEM: it is where it was. */
int iommu_move(u32 sbdf, unsigned space) must_check;
bool iommu_remaps(void);                            /* a function can send its own interrupts alone */
/* The nth unit's registers, if units are or will be in use: nobody else may have them. */
bool iommu_registers(unsigned n, maddr_t *first, u64 *bytes);
/* The unit that translates for this function: what names it, or else what is for all others; NULL if there is none. */
const struct iommu_unit *iommu_unit_of(u32 sbdf);

#endif
