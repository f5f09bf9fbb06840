/*
 * Instructions that the hypervisor emulates, refuses, or has to restore the effects of. In the kernel from a list, since what is random
 * there would be our own end; in user mode, which reaches nothing of ours, any bytes at all, in single steps.
 */
#include "fuzz.h"
#include "events.h"
#include "string.h"
#include "traps.h"
#include "user.h"

struct regs { word ax, bx, cx, dx, si, di; };

static u8 code[MAX_FUZZERS][4096] __attribute__((aligned(4096)));

/* di points at memory that may change, from there up to a fence: a string instruction with a prefix goes on for as long as it can. */
static const struct { u8 n, bytes[6]; } insns[] = {
    { 2, { 0x0f, 0xa2 } },              /* cpuid */
    { 5, { 0x0f, 0x0b, 'x', 'e', 'n' } },   /* the forced cpuid's prefix, with cpuid behind it or not */
    { 2, { 0x0f, 0x32 } },              /* rdmsr */
    { 2, { 0x0f, 0x30 } },              /* wrmsr */
    { 2, { 0x0f, 0x31 } },              /* rdtsc */
    { 3, { 0x0f, 0x01, 0xf9 } },        /* rdtscp */
    { 2, { 0x0f, 0x33 } },              /* rdpmc */
    { 1, { 0xfa } }, { 1, { 0xfb } },   /* cli, sti */
    { 2, { 0x0f, 0x06 } },              /* clts */
    { 3, { 0x0f, 0x20, 0xc0 } }, { 3, { 0x0f, 0x20, 0xd0 } },
    { 3, { 0x0f, 0x20, 0xd8 } }, { 3, { 0x0f, 0x20, 0xe0 } },     /* mov ax, crN */
    { 3, { 0x0f, 0x22, 0xc0 } }, { 3, { 0x0f, 0x22, 0xd0 } },
    { 3, { 0x0f, 0x22, 0xe0 } },     /* mov cr0, cr2, cr4, ax: cr3 has make_root() */
    { 3, { 0x0f, 0x21, 0xc0 } }, { 3, { 0x0f, 0x21, 0xf0 } }, { 3, { 0x0f, 0x21, 0xf8 } },     /* mov ax, drN */
    { 3, { 0x0f, 0x23, 0xf0 } },        /* mov dr6, ax */
    { 3, { 0x0f, 0x01, 0x17 } }, { 3, { 0x0f, 0x01, 0x1f } },
    { 3, { 0x0f, 0x01, 0x07 } }, { 3, { 0x0f, 0x01, 0x0f } },     /* lgdt, lidt, sgdt, sidt */
    { 3, { 0x0f, 0x00, 0xd0 } }, { 3, { 0x0f, 0x00, 0xd8 } },
    { 3, { 0x0f, 0x00, 0xc0 } }, { 3, { 0x0f, 0x00, 0xc8 } },     /* lldt, ltr, sldt, str */
    { 3, { 0x0f, 0x01, 0x3f } },        /* invlpg */
    { 3, { 0x0f, 0x01, 0xf0 } }, { 3, { 0x0f, 0x01, 0xe0 } },     /* lmsw, smsw */
    { 2, { 0x0f, 0x08 } }, { 2, { 0x0f, 0x09 } },     /* invd, wbinvd */
    { 3, { 0x0f, 0x01, 0xd0 } }, { 3, { 0x0f, 0x01, 0xd1 } },     /* xgetbv, xsetbv */
    { 3, { 0x0f, 0x01, 0xf8 } },        /* swapgs */
    { 3, { 0x0f, 0x01, 0xca } }, { 3, { 0x0f, 0x01, 0xcb } },     /* clac, stac */
    { 3, { 0x0f, 0x01, 0xc8 } },        /* monitor */
    { 2, { 0x0f, 0x07 } }, { 2, { 0x0f, 0x35 } },     /* sysret, sysexit */
    { 1, { 0xec } }, { 1, { 0xed } }, { 2, { 0xe4, 0x61 } }, { 2, { 0xe6, 0x80 } },     /* in al, dx; in ax, dx; in al, 61h; out 80h, al */
    { 1, { 0x6c } },                    /* insb */
    { 2, { 0xdb, 0xe3 } }, { 2, { 0x9b, 0x9b } }, { 2, { 0xd9, 0xe8 } },     /* fninit, fwait, fld1 */
    { 3, { 0x0f, 0xae, 0x07 } }, { 3, { 0x0f, 0xae, 0x0f } },
    { 3, { 0x0f, 0xae, 0x17 } }, { 3, { 0x0f, 0xae, 0x1f } },     /* fxsave, fxrstor, ldmxcsr, stmxcsr */
    { 3, { 0x0f, 0xae, 0x27 } }, { 3, { 0x0f, 0xae, 0x2f } }, { 3, { 0x0f, 0xae, 0x37 } },     /* xsave, xrstor, xsaveopt */
    { 2, { 0xdd, 0x27 } }, { 2, { 0xdd, 0x37 } },     /* frstor, fnsave */
    { 3, { 0x0f, 0x6f, 0x07 } }, { 3, { 0x0f, 0x58, 0xc1 } },     /* movq mm0; addps */
    { 2, { 0xcd, 0x03 } }, { 2, { 0xcd, 0x30 } }, { 2, { 0xcd, 0x80 } },
    { 2, { 0xcd, 0x20 } }, { 1, { 0xf1 } }, { 2, { 0xcd, 0x0e } },     /* int */
    { 2, { 0x8e, 0xc0 } }, { 2, { 0x8e, 0xe0 } }, { 2, { 0x8e, 0xe8 } },     /* mov es, fs, gs, ax */
    { 3, { 0x0f, 0x02, 0xc0 } }, { 3, { 0x0f, 0x03, 0xc0 } },
    { 3, { 0x0f, 0x00, 0xe0 } }, { 3, { 0x0f, 0x00, 0xe8 } },     /* lar, lsl, verr, verw */
    { 2, { 0xff, 0x1f } }, { 2, { 0xff, 0x2f } },     /* call far, jmp far [di]: the last, for where di must point */
};
#define FAR_ONES (ARRAY_SIZE(insns) - 2)

/* Runs code with registers, in the kernel; it returns or faults. */
static void run_code(const u8 *at, const struct regs *r)
{
#ifdef FORMAT_PT64
    __asm__ volatile("push %%rbx\n push %%rbp\n mov %0, %%rax\n push %1\n mov 8(%%rax), %%rbx\n mov 16(%%rax), %%rcx\n"
                     " mov 24(%%rax), %%rdx\n"
                     " mov 32(%%rax), %%rsi\n mov 40(%%rax), %%rdi\n mov (%%rax), %%rax\n call *(%%rsp)\n pop %%rax\n pop %%rbp\n pop %%rbx"
                     : : "r"(r), "r"(at) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                     "memory", "cc");
#else
    __asm__ volatile("push %%ebx\n push %%ebp\n push %%es\n push %1\n mov %0, %%eax\n mov 4(%%eax), %%ebx\n mov 8(%%eax), %%ecx\n"
                     " mov 12(%%eax), %%edx\n mov 16(%%eax), %%esi\n mov 20(%%eax), %%edi\n mov (%%eax), %%eax\n call *(%%esp)\n"
                     " pop %%eax\n pop %%es\n pop %%ebp\n pop %%ebx"
                     : : "S"(r), "D"(at) : "eax", "ecx", "edx", "memory", "cc");
#endif
}

static word some_msr(struct fuzz *z)
{
    static const u32 msrs[] = { 0x10, 0x1b, 0x3a, 0x48, 0x8b, 0xce, 0xfe, 0x10a, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x186, 0x1a0, 0x1d9,
                                0x200, 0x277, 0x2ff, 0x345, 0x400, 0x401, 0x480, 0x6e0, 0x802, 0xc0000080, 0xc0000081, 0xc0000082,
                                0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0010015, 0xc0010058, 0x140 };

    return once_in(z, 8) ? (u32)next(z) : msrs[below(z, ARRAY_SIZE(msrs))];
}

/* dx: of ports those whose reading changes nothing. ax also is what selectors and control registers are loaded with. */
static struct regs some_regs(struct fuzz *z)
{
    static const u16 ports[] = { 0x80, 0x61, 0x3fd, 0xcf8, 0x71, 0x21, 0xa1, 0x604, 0x1f7, 0xffff };
    struct regs r = { .ax = (word)some_value(z), .bx = (word)some_value(z), .cx = some_msr(z), .dx = ports[below(z, ARRAY_SIZE(ports))] };

    r.di = P(once_in(z, 2) ? state_of(z) : slot(z));
    r.si = r.di;
    if (once_in(z, 2))
        r.ax = once_in(z, 2) ? (word)below(z, 0x10000) : 0x80050033;
    return r;
}

/* Selector and offset of a far call: it ends where nothing is. */
static void fill_state(struct fuzz *z)
{
    u8 *at = state_of(z);

    for (unsigned i = 0; i < 64; i++)
        ((u64 *)at)[i] = once_in(z, 3) ? next(z) : 0;
    *(u32 *)at = 16;
    *(u16 *)(at + 4) = (u16)(once_in(z, 2) ? below(z, 600) * 8 | 3 : next(z));
}

static void one_of_the_list(struct fuzz *z)
{
    static const u8 prefixes[] = { 0x66, 0xf2, 0xf3, 0x2e, 0x3e, 0x26 };    /* FS and GS lead anywhere */
    u8 *at = code[z->who];
    unsigned i = below(z, ARRAY_SIZE(insns));
    struct regs r = some_regs(z);

    fill_state(z);
    if (i >= FAR_ONES)      /* a page that anybody writes to would have them go anywhere */
        r.di = P(state_of(z));
    if (once_in(z, 6))
        *at++ = prefixes[below(z, ARRAY_SIZE(prefixes))];
#ifdef FORMAT_PT64
    if (once_in(z, 3))
        *at++ = 0x48;
#endif
    memcpy(at, insns[i].bytes, insns[i].n);
    at[insns[i].n] = 0xc3;
    (void)FAULT_IN(run_code(code[z->who], &r));
    write_once(vcpu_info(z->who)->evtchn_upcall_mask, 0);
}

/* ---- User mode: of the first vCPU only, since the harness has one ---- */

#define USER_STEPS 64
#define IRET 0xcf
#define NOP  0x90
static unsigned user_steps;     /* until now, of the bytes that run */

/* Each instruction traps, whatever the one before it did to the flags: a loop ends when it has gone on for long enough. */
bool user_goes_on(struct trap_regs *r)
{
    r->flags |= EFLAGS_TF;
    return ++user_steps < USER_STEPS;
}

static void ready_for_user(void)
{
    user_steps = 0;
    user_stack_restore();
    user_install();     /* whatever calls, of this vCPU's or changed by another, have made the user root */
}

/* But for IRET, by which QEMU has user mode enter virtual-8086 mode in long mode, too, where no CPU has it: any_frame() tries its flags. */
static void any_bytes(struct fuzz *z)
{
    u8 bytes[16];
    unsigned i = below(z, ARRAY_SIZE(insns));

    for (unsigned n = 0; n < sizeof(bytes); n++)
        bytes[n] = (u8)next(z);
    if (once_in(z, 2))
        memcpy(bytes + below(z, 2), insns[i].bytes, insns[i].n);
    for (unsigned n = 0; n < sizeof(bytes); n++)
        if (bytes[n] == IRET)
            bytes[n] = NOP;
    (void)user_run_flags(bytes, sizeof(bytes), EFLAGS_TF | (once_in(z, 4) ? EFLAGS_AC : 0));
}

static void any_frame(struct fuzz *z)
{
    static const u16 selectors[] = { 0, FLAT_RING3_CS64 & 0xffff, FLAT_RING3_CS32 & 0xffff, 0xe00b, 7, 0x10, 0xe02b };
    const u8 nothing[] = { 0x90 };
    word cs = once_in(z, 3) ? selectors[below(z, ARRAY_SIZE(selectors))] | 3 : USER_CS;
    word flags = (word)next(z) & 0x3f7fd7 & ~(word)(1 << 17);      /* VM86 ends a domain */
    word ip = once_in(z, 4) ? 16 : once_in(z, 6) ? format.hv_start : P(user_page(USER_CODE));
    word ss = once_in(z, 3) ? (word)(u16)next(z) | 3 : USER_SS;
    const word frame[] = {
#ifdef FORMAT_PT64
        once_in(z, 4) ? below(z, 0x200) : 0,
#endif
        ip, cs, flags | EFLAGS_TF, P(user_page(USER_STACK)) + 2048, ss };

    user_load(nothing, sizeof(nothing));
    (void)FAULT_IN(iret_frame(frame, ARRAY_SIZE(frame)));
}

void some_instruction(struct fuzz *z)
{
    if (z->who || once_in(z, 2)) {
        one_of_the_list(z);
        return;
    }
    ready_for_user();
    if (once_in(z, 3))
        any_frame(z);
    else
        any_bytes(z);
    write_once(vcpu_info(0)->evtchn_upcall_mask, 0);
}
