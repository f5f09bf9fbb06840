/*
 * Selectors of our own descriptors. They live in page 14 of every GDT, guests' included (FIRST_RESERVED_GDT_PAGE), in two
 * variants: one for 64-bit domains, one for 32-bit ones, which know other segments by the same numbers.
 */
#ifndef ASM_DESC_H
#define ASM_DESC_H

#include <pvisor/types.h>

#define HYP_CS  0xe008
#define HYP_DS  0xe010
#define SEL_TSS 0xe040
#define SEL_LDT 0xe050

/*
 * A 32-bit guest's call gates have DPL 0 in its tables, so that using one faults and is emulated. Bits 37 to 39, which mean
 * nothing in a gate, then hold the DPL that the guest gave it, and that they do.
 */
#define DESC_GATE_MASK (1UL << 47 | 31UL << 40)
#define DESC_GATE      (1UL << 47 | 12UL << 40)
#define DESC_GATE_KEPT (1UL << 39)
static inline bool desc_is_gate(u64 d) { return (d & DESC_GATE_MASK) == DESC_GATE; }
static inline unsigned desc_gate_dpl(u64 d) { return d >> 37 & 3; }

struct __attribute__((packed)) tss64 {
    u32 reserved0;
    u64 rsp0, rsp1, rsp2, reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, iomap_base;
};

struct __attribute__((packed)) desc_ptr { u16 limit; u64 base; };

#define IST_DF  1
#define IST_NMI 2
#define IST_MC  3
#define IST_DB  4

static inline void lgdt(u64 base, u16 limit) { struct desc_ptr p = { limit, base }; __asm__ volatile("lgdt %0" :: "m"(p)); }
static inline void lidt(u64 base, u16 limit) { struct desc_ptr p = { limit, base }; __asm__ volatile("lidt %0" :: "m"(p)); }
static inline void lldt(u16 sel) { __asm__ volatile("lldt %0" :: "r"(sel) : "memory"); }

/* arch/x86/cpu/desc.c */
void idt_init(void);
void desc_prepare_cpu(unsigned cpu);               /* what needs memory and can be made before the CPU runs */
void desc_init_cpu(unsigned cpu);                  /* stack area, TSS, GDT pages, MSRs for SYSCALL; loads all but the stack */
void desc_set_syscall_entry(unsigned cpu, const char *entry);
/* Calls fn for all that the hardware, or the first instructions of ours, touch when a guest is left, but code and the GDT. */
void desc_for_each_part(unsigned cpu, void (*fn)(u64 *to, u64 va, size_t bytes), u64 *to);
u64 cpu_gdt_page(unsigned cpu, bool compat);       /* the leaf entry (address and flags) for a vCPU's GDT page 14 */
void load_cpu_gdt(void);                           /* this CPU's own, valid in every address space */
void set_cpu_ldt(u64 base, u32 entries);           /* loads the LDT register; entries 0: none */
struct cpu_info *cpu_info_of(unsigned cpu);

#endif
