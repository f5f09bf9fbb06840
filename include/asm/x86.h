/* Instructions and architectural constants (Intel SDM vol. 3, AMD APM vol. 2). */
#ifndef ASM_X86_H
#define ASM_X86_H

#include <pvisor/types.h>

#define CR0_PE (1UL << 0)
#define CR0_MP (1UL << 1)
#define CR0_TS (1UL << 3)
#define CR0_ET (1UL << 4)
#define CR0_NE (1UL << 5)
#define CR0_WP (1UL << 16)
#define CR0_AM (1UL << 18)
#define CR0_PG (1UL << 31)
#define CR0_HOST (CR0_PG | CR0_AM | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE)     /* but for TS, the guest's */
#define CR4_TSD (1UL << 2)
#define CR4_DE  (1UL << 3)
#define CR4_PSE (1UL << 4)
#define CR4_PAE (1UL << 5)
#define CR4_MCE (1UL << 6)
#define CR4_OSFXSR (1UL << 9)
#define CR4_OSXMMEXCPT (1UL << 10)
#define CR4_FSGSBASE (1UL << 16)
#define CR4_OSXSAVE (1UL << 18)
#define CR4_SMEP (1UL << 20)
#define CR4_SMAP (1UL << 21)
#define DR6_RESERVED_SET 0xffff0ff0UL
#define DR7_RESERVED_SET 0x400UL

#define RFLAGS_CF (1UL << 0)
#define RFLAGS_FIXED (1UL << 1)
#define RFLAGS_ZF (1UL << 6)
#define RFLAGS_TF (1UL << 8)
#define RFLAGS_IF (1UL << 9)
#define RFLAGS_DF (1UL << 10)
#define RFLAGS_IOPL (3UL << 12)
#define RFLAGS_NT (1UL << 14)
#define RFLAGS_RF (1UL << 16)
#define RFLAGS_VM (1UL << 17)
#define RFLAGS_AC (1UL << 18)
#define RFLAGS_VIF (1UL << 19)
#define RFLAGS_VIP (1UL << 20)

#define MSR_APIC_BASE 0x1b
#define MSR_SPEC_CTRL 0x48
#define MSR_MISC_ENABLE 0x1a0
#define MSR_PAT 0x277
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103
#define EFER_SCE (1UL << 0)
#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)
#define EFER_NX (1UL << 11)

#define X86_VEC_DE 0
#define X86_VEC_DB 1
#define X86_VEC_NMI 2
#define X86_VEC_BP 3
#define X86_VEC_OF 4
#define X86_VEC_BR 5
#define X86_VEC_UD 6
#define X86_VEC_NM 7
#define X86_VEC_DF 8
#define X86_VEC_TS 10
#define X86_VEC_NP 11
#define X86_VEC_SS 12
#define X86_VEC_GP 13
#define X86_VEC_PF 14
#define X86_VEC_AC 17
#define X86_VEC_MC 18
#define X86_VEC_XM 19

/* Page-fault error code */
#define PF_PRESENT (1u << 0)
#define PF_WRITE   (1u << 1)
#define PF_USER    (1u << 2)
#define PF_RSVD    (1u << 3)
#define PF_INSTR   (1u << 4)

#define READ_CR(n) static inline u64 read_cr##n(void) { u64 v; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v)); return v; }
#define WRITE_CR(n) static inline void write_cr##n(u64 v) { __asm__ volatile("mov %0, %%cr" #n :: "r"(v) : "memory"); }
READ_CR(0) READ_CR(2) READ_CR(3) READ_CR(4)
WRITE_CR(2) WRITE_CR(3)
/* Written by way of asm/loaded.h alone. */
WRITE_CR(0) WRITE_CR(4)
static inline void clts(void) { __asm__ volatile("clts" ::: "memory"); }
static inline void write_xcr0(u64 v) { __asm__ volatile("xsetbv" :: "c"(0), "a"((u32)v), "d"((u32)(v >> 32)) : "memory"); }
#define READ_DR(n) static inline u64 read_dr##n(void) { u64 v; __asm__ volatile("mov %%db" #n ", %0" : "=r"(v)); return v; }
#define WRITE_DR(n) static inline void write_dr##n(u64 v) { __asm__ volatile("mov %0, %%db" #n :: "r"(v)); }
READ_DR(6) READ_DR(7)
WRITE_DR(0) WRITE_DR(1) WRITE_DR(2) WRITE_DR(3) WRITE_DR(6) WRITE_DR(7)

static inline u64 rdmsr(u32 msr)
{
    u32 lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (u64)hi << 32;
}

static inline void wrmsr(u32 msr, u64 v)
{
    __asm__ volatile("wrmsr" :: "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

/* rdmsr() and wrmsr() that return -EFAULT instead of faulting on an MSR that the CPU does not have; else 0. */
int rdmsr_safe(u32 msr, u64 *v);
int wrmsr_safe(u32 msr, u64 v);

/* A linear address with four levels of tables: bits 48 to 63 repeat bit 47 (SDM vol. 1, 3.3.7.1). */
static inline bool is_canonical(u64 va) { return (u64)((s64)(va << 16) >> 16) == va; }

static inline u64 rdtsc(void)
{
    u32 lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (u64)hi << 32;
}

struct cpuid_regs { u32 a, b, c, d; };

#ifdef HOST_TEST    /* not of the machine that a test runs on: tests/unit/fake/cpuid.c */
struct cpuid_regs cpuid(u32 leaf, u32 subleaf);
#else
static inline struct cpuid_regs cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_regs r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}
#endif

static inline u8 inb(u16 p) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u16 inw(u16 p) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u32 inl(u16 p) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline void outb(u16 p, u8 v) { __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outw(u16 p, u16 v) { __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outl(u16 p, u32 v) { __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(p)); }

#define CACHE_LINE 64UL
/* Writes the lines of len bytes back to memory, out of all caches. */
static inline void clflush_range(const void *p, u64 len)
{
    for (u64 at = (u64)p & ~(CACHE_LINE - 1); at < (u64)p + len; at += CACHE_LINE)
        __asm__ volatile("clflush (%0)" :: "r"(at) : "memory");
    __asm__ volatile("mfence" ::: "memory");
}
static inline void invlpg(u64 va) { __asm__ volatile("invlpg (%0)" :: "r"(va) : "memory"); }
#ifdef __SANITIZE_THREAD__   /* CPUs are threads, more than there are real CPUs */
int sched_yield(void);
static inline void cpu_relax(void) { (void)sched_yield(); }
#else
static inline void cpu_relax(void) { __asm__ volatile("pause" ::: "memory"); }
#endif
#ifdef HOST_TEST   /* a simulated interrupt flag for each thread */
__attribute__((weak)) __thread u64 host_rflags = RFLAGS_IF;
static inline void irq_disable(void) { host_rflags = 0; }
static inline void irq_enable(void) { host_rflags = RFLAGS_IF; }
static inline u64 read_rflags(void) { return host_rflags; }
#else
static inline void irq_disable(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void irq_enable(void) { __asm__ volatile("sti" ::: "memory"); }
static inline u64 read_rflags(void) { u64 f; __asm__ volatile("pushfq; popq %0" : "=r"(f)); return f; }
#endif
static inline u64 irq_save(void) { u64 f = read_rflags(); irq_disable(); return f; }
static inline void irq_restore(u64 f) { if (f & RFLAGS_IF) irq_enable(); }
static inline void halt_forever(void) { for (;;) __asm__ volatile("cli; hlt"); }

#endif
