/* What the boot loader told us, copied out of its structures. */
#ifndef ASM_BOOT_H
#define ASM_BOOT_H

#include <pvisor/types.h>
#include <pvisor/vga.h>

#define MAX_BOOT_MODULES 8
#define BOOT_RSDP_SIZE 36

struct boot_module {
    maddr_t start;
    u64 size;
    char cmdline[1024];
};

struct boot_info {
    char loader[64], cmdline[1024];
    struct boot_module module[MAX_BOOT_MODULES];
    unsigned nr_modules;
    u8 rsdp[BOOT_RSDP_SIZE];   /* the ACPI root pointer as the loader copied it; its first byte is 0: not told */
    struct framebuffer framebuffer;
    u64 efi_system_table;      /* of 64-bit UEFI firmware whose boot services the loader has left; 0: none */
};

extern struct boot_info boot_info;

/* Fills boot_info and host_e820; false if the magic number is neither Multiboot's nor Multiboot 2's. */
bool multiboot_parse(u32 magic, u32 info);
/* Readies boot_alloc() for what host_e820 says, without our image; keeps it from the bytes from start to end, which are somebody's. */
void memory_init(void);
void boot_reserve(u64 start, u64 end);
/* What boot_alloc() left goes to the heap. */
void memory_to_heap(void);
/* A module's memory, or the initial code and data, goes to the heap. */
void boot_release(maddr_t start, u64 size);

/* Loads the microcode that ucode= names. After the heap is there, and faults are handled; CPU 0 alone runs. */
void ucode_boot(void);

/* Builds and starts dom0 from the first two modules; stops the machine with a message if that cannot be done. */
void dom0_build(const struct boot_module *kernel, const struct boot_module *initrd);

/*
 * arch/x86/pv/dom0_size.c: what dom0_mem= and dom0_max_vcpus= make of so many frames, or CPUs: dom0's frames to start with, those it may
 * grow to, its vCPUs.
 */
#define DOM0_UNLIMITED 0x7fffffffUL     /* 8 TiB; a positive number for 32-bit guests, too */
u64 dom0_pages(u64 available);
u64 dom0_most_pages(u64 available);
u32 dom0_vcpus(u32 cpus);
bool dom0_is_pinned(void);          /* each vCPU to the CPU of its number */

#endif
