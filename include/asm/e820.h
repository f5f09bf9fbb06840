/* The machine's memory map (mm/e820.c). */
#ifndef ASM_E820_H
#define ASM_E820_H

#include <asm/layout.h>
#include <pvisor/types.h>

struct e820_entry { u64 start, size; u32 type; };
#define E820_RAM 1
#define E820_RESERVED 2
#define E820_ACPI 3
#define E820_NVS 4
#define E820_UNUSABLE 5

#define E820_MAX 1024
#define E820_RAM_LIMIT DIRECTMAP_SIZE      /* RAM above is left alone */

extern struct e820_entry host_e820[E820_MAX];     /* sorted; no two overlap */
extern unsigned host_e820_nr;

/*
 * A map as a boot loader has it, of any length: entries of start, size (8 bytes each) and type (4), `stride` bytes apart; 0: each has its
 * own length, without these four bytes, in front (Multiboot 1).
 */
struct e820_source { const char *at, *end; u32 stride; };

/* Fills host_e820. With too many pieces for it the smallest are left out, which e820_log() says. */
void e820_read(const struct e820_source *s);
/* RAM from start to end is the firmware's. */
void e820_reserve(u64 start, u64 end);
/*
 * Takes out of host_e820 what mem=, availmem= and badpage= on the command line keep from being used. hle_hangs: and what
 * erratum_hle_at_1g() is about.
 */
void e820_withhold(bool hle_hangs);
void e820_log(void);

#endif
