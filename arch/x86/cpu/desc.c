/* Descriptor tables: one IDT for all CPUs; a stack area, a TSS, two GDT pages and the SYSCALL stubs for each. */
#include <asm/closed.h>
#include <asm/desc.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

struct idt_gate { u16 off_lo, sel; u8 ist, attr; u16 off_mid; u32 off_hi, zero; };
/* A page of its own, which guests' CPUs may see. */
static struct idt_gate idt[256] __attribute__((aligned(PAGE_SIZE)));

extern char idt_stubs[], syscall_entry[], closed_syscall_entry[], cstar_entry[], sysenter_entry[], syscall_stub[], syscall_stub_end[];

struct cpu_desc {
    struct tss64 tss;
    u64 *gdt, *gdt_compat;      /* page 14 in its two variants */
};
DECLARE_PERCPU(struct cpu_desc, cpu_desc);
DEFINE_PERCPU(struct cpu_desc, cpu_desc);

static u64 stack_top(unsigned cpu) { return STACKS_START + cpu * STACK_STRIDE + STACK_SIZE; }
struct cpu_info *cpu_info_of(unsigned cpu) { return (struct cpu_info *)stack_top(cpu) - 1; }

static void set_gate(unsigned v, unsigned dpl, unsigned ist)
{
    u64 a = (u64)idt_stubs + v * 16;
    idt[v] = (struct idt_gate){ (u16)a, HYP_CS, (u8)ist, (u8)(0x8e | dpl << 5), (u16)(a >> 16), (u32)(a >> 32), 0 };
}

__init void idt_init(void)
{
    for (unsigned v = 0; v < 256; v++)
        set_gate(v, v == X86_VEC_BP || v == X86_VEC_OF || v == 0x80 ? 3 : v == 0x82 ? 1 : 0,
                 v == X86_VEC_DF ? IST_DF : v == X86_VEC_NMI ? IST_NMI : v == X86_VEC_MC ? IST_MC :
                 v == X86_VEC_DB ? IST_DB : 0);
}

/* Code and data segments, flat: type and privilege in the access byte, size in the flags nibble. */
#define SEG(access, flags) (0x000f00000000ffffUL | (u64)(flags) << 52 | (u64)(access) << 40)

static void fill_gdt(u64 *g, unsigned cpu, bool compat)
{
    u64 t = (u64)&cpu_var(cpu_desc, cpu).tss, limit = sizeof(struct tss64) - 1;

    g[1] = SEG(0x9b, 0xa);                          /* e008: our code */
    g[2] = SEG(0x93, 0xc);                          /* e010: our data */
    g[3] = SEG(0xbb, 0xc);                          /* e019: ring-1 code */
    g[4] = compat ? SEG(0xb3, 0xc) : SEG(0xfb, 0xc);/* e021 ring-1 data, or e023 ring-3 32-bit code */
    g[5] = compat ? SEG(0xfb, 0xc) : SEG(0xf3, 0xc);/* e02b ring-3 code, or data */
    g[6] = compat ? SEG(0xf3, 0xc) : SEG(0xfb, 0xa);/* e033 ring-3 data, or 64-bit code */
    g[8] = limit | (t & 0xffffff) << 16 | 0x89UL << 40 | (t >> 24 & 0xff) << 56;
    g[9] = t >> 32;
}

u64 cpu_gdt_page(unsigned cpu, bool compat)
{
    struct cpu_desc *c = &cpu_var(cpu_desc, cpu);
    return virt_to_maddr(compat ? c->gdt_compat : c->gdt).v | HYP_RW;
}

/* A GDT whose base lies 14 pages below our page in the direct map: only its last page is ever used. */
void load_cpu_gdt(void)
{
    lgdt((u64)this_cpu(cpu_desc).gdt - FIRST_RESERVED_GDT_BYTE, FIRST_RESERVED_GDT_BYTE + PAGE_SIZE - 1);
}

void set_cpu_ldt(u64 base, u32 entries)
{
    struct cpu_desc *c = &this_cpu(cpu_desc);
    u64 limit = entries * 8UL - 1, lo, hi = base >> 32;

    if (!entries) {
        lldt(0);
        return;
    }
    lo = (limit & 0xffff) | (base & 0xffffff) << 16 | 0x82UL << 40 | (limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
    c->gdt[10] = c->gdt_compat[10] = lo;
    c->gdt[11] = c->gdt_compat[11] = hi;
    lldt(SEL_LDT);
}

/*
 * The stubs that SYSCALL enters find this CPU's stack relative to %rip, since no register is free. They live on a
 * page of their own next to the stacks: within reach of both, and never writable where it is executable.
 */
static u64 make_stub(unsigned cpu, u8 *page, unsigned off, u64 page_va, const char *entry)
{
    u64 va = page_va + off;
    struct cpu_info *ci = cpu_info_of(cpu);
    size_t n = (size_t)(syscall_stub_end - syscall_stub);
    u8 *p = page + off;

    memcpy(p, syscall_stub, n);
    *(u32 *)(p + 3) = (u32)((u64)&ci->scratch_rsp - (va + 7));
    *(u32 *)(p + 10) = (u32)((u64)&ci->guest_regs.es - (va + 14));
    *(u32 *)(p + 15) = (u32)((u64)entry - (va + 19));
    return va;
}

static u64 stub_page(unsigned cpu) { return stack_top(cpu); }

/* Where SYSCALL leads on a CPU that runs no guest yet. */
void desc_set_syscall_entry(unsigned cpu, const char *entry)
{
    u64 va = stub_page(cpu);

    (void)make_stub(cpu, maddr_to_virt(maddr(hyp_lookup(va) & PTE_MFN_MASK)), 0, va, entry);
}

static void init_syscall(unsigned cpu, u64 lstar, u64 cstar)
{
    wrmsr(MSR_STAR, (u64)FLAT_RING3_CS32 << 48 | (u64)HYP_CS << 32);
    wrmsr(MSR_LSTAR, lstar);
    wrmsr(MSR_CSTAR, cstar);
    wrmsr(MSR_SFMASK, RFLAGS_VM | RFLAGS_RF | RFLAGS_NT | RFLAGS_DF | RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_IOPL);
    wrmsr(MSR_SYSENTER_CS, HYP_CS);
    wrmsr(MSR_SYSENTER_ESP, (u64)&cpu_info_of(cpu)->guest_regs.es);
    wrmsr(MSR_SYSENTER_EIP, (u64)sysenter_entry);
}

static void map_stack(unsigned cpu)
{
    u64 base = STACKS_START + cpu * STACK_STRIDE;
    mfn_t m = alloc_frames(STACK_ORDER, 0);

    BUG_ON(mfn_eq(m, INVALID_MFN));
    /* Frames 0 to 2: the stacks of #DF, NMI and #MC; frame 3 stays unmapped, to catch overflow. */
    BUG_ON(hyp_map(base, mfn_to_maddr(m), 3, HYP_RW) < 0);
    BUG_ON(hyp_map(base + 4 * PAGE_SIZE, mfn_to_maddr(mfn_add(m, 4)), (STACK_SIZE >> PAGE_SHIFT) - 4, HYP_RW) < 0);
}

/* Interrupts from a guest find its frame's place on the topmost page. */
void desc_for_each_part(unsigned cpu, void (*fn)(u64 *to, u64 va, size_t bytes), u64 *to)
{
    fn(to, (u64)idt, sizeof(idt));
    fn(to, (u64)&cpu_var(cpu_desc, cpu).tss, sizeof(struct tss64));
    fn(to, STACKS_START + cpu * STACK_STRIDE, 3 * PAGE_SIZE);
    fn(to, stack_top(cpu) - PAGE_SIZE, PAGE_SIZE);
    fn(to, stub_page(cpu), PAGE_SIZE);
}

static u64 lstar_of[NR_CPUS], cstar_of[NR_CPUS];

void desc_prepare_cpu(unsigned cpu)
{
    struct cpu_desc *c = &cpu_var(cpu_desc, cpu);
    u64 stub_va = stub_page(cpu);
    u8 *stub;

    if (c->gdt)
        return;
    stub = alloc_pages(0);
    map_stack(cpu);
    c->gdt = alloc_pages(0);
    c->gdt_compat = alloc_pages(0);
    BUG_ON(!stub || !c->gdt || !c->gdt_compat);
    c->tss.rsp0 = (u64)&cpu_info_of(cpu)->guest_regs.es;
    c->tss.iomap_base = sizeof(struct tss64);
    for (unsigned i = 0; i < 3; i++)
        c->tss.ist[i] = STACKS_START + cpu * STACK_STRIDE + (i + 1) * PAGE_SIZE;
    /* #DB needs little, and a #DF does not return. */
    c->tss.ist[IST_DB - 1] = STACKS_START + cpu * STACK_STRIDE + PAGE_SIZE / 2;
    lstar_of[cpu] = make_stub(cpu, stub, 0, stub_va, CLOSED_ROOTS ? closed_syscall_entry : syscall_entry);
    cstar_of[cpu] = make_stub(cpu, stub, 32, stub_va, cstar_entry);
    BUG_ON(hyp_map(stub_va, virt_to_maddr(stub), 1, HYP_RX) < 0);
    cpu_info_of(cpu)->cpu = cpu;
}

void desc_init_cpu(unsigned cpu)
{
    struct cpu_desc *c = &cpu_var(cpu_desc, cpu);

    desc_prepare_cpu(cpu);
    /* Anew each time: the TSS of a CPU that comes back must not be marked busy. */
    fill_gdt(c->gdt, cpu, false);
    fill_gdt(c->gdt_compat, cpu, true);
    lgdt((u64)c->gdt - FIRST_RESERVED_GDT_BYTE, FIRST_RESERVED_GDT_BYTE + PAGE_SIZE - 1);
    lidt((u64)idt, sizeof(idt) - 1);
    __asm__ volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1: movl %1, %%eax; movl %%eax, %%ss\n"
                     "xorl %%eax, %%eax; movl %%eax, %%ds; movl %%eax, %%es; movl %%eax, %%fs; movl %%eax, %%gs"
                     :: "i"(HYP_CS), "i"(HYP_DS) : "rax", "memory");
    __asm__ volatile("ltr %0" :: "r"((u16)SEL_TSS));
    lldt(0);
    init_syscall(cpu, lstar_of[cpu], cstar_of[cpu]);
}
