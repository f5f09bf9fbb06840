/*
 * UEFI (specification 2.10): what firmware that is one leaves behind when the boot loader has ended its boot services, and its runtime
 * services, which are called at their physical addresses. 64-bit firmware only. drivers/efi.
 */
#ifndef PVISOR_EFI_H
#define PVISOR_EFI_H

#include <asm/layout.h>
#include <asm/regs.h>
#include <public/platform.h>
#include <pvisor/types.h>

/* --- Its memory (drivers/efi/memory.c) --- */

enum efi_memory_type {
    EFI_LOADER_CODE = 1, EFI_LOADER_DATA, EFI_BOOT_SERVICES_CODE, EFI_BOOT_SERVICES_DATA, EFI_RUNTIME_SERVICES_CODE,
    EFI_RUNTIME_SERVICES_DATA, EFI_CONVENTIONAL_MEMORY,
};
#define EFI_MEMORY_WB      (1UL << 3)
#define EFI_MEMORY_RUNTIME (1UL << 63)

/* What is not free memory now. Bytes from start on, before end. */
struct efi_region {
    u64 start, end, attributes;
    u32 type;
};
#define EFI_MAX_REGIONS 256
extern struct efi_region efi_regions[EFI_MAX_REGIONS];
extern unsigned efi_nr_regions;

/* A memory map as GetMemoryMap() gives it, of so many bytes, with a descriptor each `stride` bytes. */
void efi_read_map(const void *map, u32 size, u32 stride);
/* What the runtime services live in is nobody's RAM, whatever another map says. Before e820_withhold(). */
void efi_reserve_memory(void);
/* Where that address is; NULL: in free memory, or in what the map does not have. */
const struct efi_region *efi_region_at(u64 address);
static inline bool efi_is_runtime(const struct efi_region *r) { return r && r->attributes & EFI_MEMORY_RUNTIME; }

/* --- What it says of itself (drivers/efi/tables.c) --- */

#define EFI_VENDOR_MAX 64
extern struct efi_info {
    bool present;                    /* the machine was started by UEFI: all below is known */
    u32 revision;                    /* of the specification: major << 16 | minor */
    u32 vendor_revision;
    u16 vendor[EFI_VENDOR_MAX];      /* UCS-2, its last is 0 */
    u64 config_tables;               /* machine address of 24-byte entries */
    u32 nr_config_tables;
    u64 runtime_services;            /* machine address of their table */
} efi_info;

/* Fills efi_info. system_table: its machine address, or 0. Needs the heap. */
void efi_init(u64 system_table);

/* --- Its runtime services (drivers/efi/call.c) --- */

#define EFI_NAME_MAX 1024            /* characters of a variable's name, the 0 at its end included */
#define EFI_DATA_MAX 0x10000u        /* bytes of a variable */

typedef u64 efi_status;              /* 0: success; an error has bit 63 */
#define EFI_ABORTED (1UL << 63 | 21)

/* Offsets in the table of runtime services. */
enum efi_service {
    EFI_GET_TIME = 24, EFI_SET_TIME = 32, EFI_GET_WAKEUP_TIME = 40, EFI_SET_WAKEUP_TIME = 48, EFI_GET_VARIABLE = 72,
    EFI_GET_NEXT_VARIABLE_NAME = 80, EFI_SET_VARIABLE = 88, EFI_GET_NEXT_HIGH_MONOTONIC_COUNT = 96, EFI_RESET_SYSTEM = 104,
    EFI_QUERY_VARIABLE_INFO = 128,
};

/*
 * What the firmware is given pointers to. It is mapped for it at its physical address, as the firmware itself is, beside our own address
 * space: there is no other memory that it could touch and that anybody but us has.
 */
struct efi_arena {
    u8 stack[STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
    struct {
        struct xenpf_efi_guid guid;         /* laid out as the specification's */
        struct xenpf_efi_time time;
        struct { u32 resolution, accuracy; u8 sets_to_zero; } capabilities;
        u8 enabled, pending;
        u64 size, numbers[3];
        u32 attributes, count;
    } args;
    u16 name[EFI_NAME_MAX];
    u8 data[EFI_DATA_MAX];
};
extern struct efi_arena *efi_arena;  /* NULL: no services could ever be called */

/* Makes the arena and the tables that services run on. After efi_init(). */
void efi_call_init(void);
/* The revision of the services' table; 0: none can be called, or not any more. The arena is there nevertheless. */
u32 efi_services_revision(void);
/*
 * Calls a service with up to five arguments; pointers are efi_pointer() of something in the arena. One at a time, which is the caller's
 * business, for the arena is one. Interrupts are off while the firmware runs, and it runs as long as it likes. A fault of the firmware's
 * ends the call, and all further ones: EFI_ABORTED.
 */
efi_status efi_call(enum efi_service s, u64 a, u64 b, u64 c, u64 d, u64 e);
u64 efi_pointer(const void *in_arena);
/* An exception in ring 0: if it is the firmware's, the call is over, and r goes on behind it. */
bool efi_faulted(struct cpu_regs *r);

#endif
