/*
 * The emulator: lengths and addresses in three modes, hostile bytes, privileged operations; page-table writes
 * against what this machine's own processor does with the same instruction.
 */
// SOURCES: arch/x86/pv/emulate/decode.c arch/x86/pv/emulate/fetch.c arch/x86/pv/emulate/ptwr.c
// SOURCES: arch/x86/pv/emulate/privop.c arch/x86/pv/emulate/io.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include <asm/emulate.h>
#include <asm/fpu.h>
#include <asm/percpu.h>
#include <asm/time.h>
#include <public/errno.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/pci.h>
#include <pvisor/rangeset.h>

/* --- What surrounds the emulator ---------------------------------------------------------------- */

static struct trap_entry traps[256];
static struct cpu_policy policy;
static u64 vcpu_info_page[64];
static struct domain dom;
static struct vcpu vcpu = { .domain = &dom };
static struct cpu_info info = { .current_vcpu = &vcpu };
static int injected;            /* vector, or -1 */
static u64 injected_address, unreadable_from, cr3_written, msr_written;
static u64 memory_first, memory_end;    /* unless both are 0, all that a guest can reach */
static u64 descriptor;
static bool blocked;

struct cpu_info *cpu_info(void) { return &info; }
void guest_log(const char *fmt, ...) { (void)fmt; }
void fetch_note(u64 va, size_t len) { (void)va, (void)len; }
static const struct cpu_regs *stepped;  /* whose registers a trap's frame would have */
static struct cpu_regs as_injected;
void pv_inject_trap(u8 vector, u32 error)
{
    injected = vector, (void)error;
    if (stepped)
        as_injected = *stepped;
}
void pv_inject_page_fault(u64 address, u32 error) { injected = 14, injected_address = address, (void)error; }
void pv_toggle_mode(struct vcpu *v) { v->arch.kernel_mode = !v->arch.kernel_mode; }
u64 pv_read_cr3(struct vcpu *v) { (void)v; return 0x123000; }
int pv_write_cr3(struct vcpu *v, u64 cr3)
{
    (void)v;
    cr3_written = cr3;
    return cr3 & 1 ? -EINVAL : cr3 & 2 ? -ERESTART_HYPERCALL : 0;
}
static unsigned steps_to_mirrors;
void pt_mirror_step(struct domain *d) { steps_to_mirrors += d == &dom; }
int guest_rdmsr(struct vcpu *v, u32 msr, u64 *val)
{
    (void)v;
    *val = 0x1122334455667788;
    return msr ? 0 : -EINVAL;
}
int guest_wrmsr(struct vcpu *v, u32 msr, u64 val) { (void)v; msr_written = val; return msr ? 0 : -EINVAL; }
u64 pv_fixup_cr4(const struct vcpu *v, u64 cr4) { (void)v; return cr4; }
void pv_cpu_switch_to(const struct vcpu *v) { (void)v; }
int pv_set_debugreg(struct vcpu *v, unsigned n, u64 val)
{
    if (n > 7)
        return -EINVAL;
    v->arch.debugreg[n] = val;
    return n == 4 ? -ENODEV : 0;
}
bool debugreg_io(struct vcpu *v, u16 port, unsigned bytes) { (void)v, (void)port, (void)bytes; return false; }
int pv_get_debugreg(const struct vcpu *v, unsigned n, u64 *val)
{
    if (n > 7)
        return -EINVAL;
    *val = v->arch.debugreg[n];
    return 0;
}
void fpu_set_ts(bool on) { vcpu.arch.ts = on; }
int fpu_xsetbv(u32 index, u64 val) { (void)val; return index ? -EINVAL : 0; }
u64 guest_rdtsc(const struct vcpu *v) { (void)v; return 0x500000007; }
struct cpuid_regs guest_cpuid(struct vcpu *v, u32 leaf, u32 sub)
{
    (void)v;
    return (struct cpuid_regs){ leaf, sub, 3, 4 };
}
u32 pci_conf_port_read(struct domain *d, u16 port, unsigned bytes) { (void)d; return port << 8 | bytes; }
void pci_conf_port_write(struct domain *d, u16 p, unsigned n, u32 v) { (void)d, (void)p, (void)n, (void)v; }
bool rangeset_contains(const struct rangeset *r, u64 a, u64 b) { (void)r, (void)a, (void)b; return false; }
bool pv_read_descriptor(struct vcpu *v, u16 sel, u64 *d) { (void)v; *d = descriptor; return sel & ~3; }
s64 do_sched_op(u64 cmd, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    blocked = cmd == 1;
    return 0;
}

bool pv_user_fault(struct vcpu *v, const struct cpu_regs *regs, u64 linear, unsigned bytes, bool write)
{
    (void)v, (void)regs, (void)linear, (void)bytes, (void)write;
    return false;
}

/* Guest addresses are ours. */
static bool unreachable(u64 at, size_t len) { return memory_end && (at < memory_first || at >= memory_end || len > memory_end - at); }

int copy_from_guest(void *dst, gva_t src, size_t len)
{
    if ((unreadable_from && src.v + len > unreadable_from) || unreachable(src.v, len))
        return -EFAULT;
    memcpy(dst, (void *)src.v, len);
    return 0;
}

int copy_to_guest(gva_t dst, const void *src, size_t len)
{
    if (dst.v < 4096 || unreachable(dst.v, len))
        return -EFAULT;
    memcpy((void *)dst.v, src, len);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    memset(&dom, 0, sizeof(dom));
    memset(&vcpu.arch, 0, sizeof(vcpu.arch));
    vcpu.arch.kernel_mode = true;
    vcpu.arch.traps = traps;
    vcpu.info = vcpu_info_page;
    dom.cpuid = &policy;
    memset(&policy, 0xff, sizeof(policy));
    injected = -1;
    unreadable_from = 0;
    blocked = false;
    return 0;
}

static struct cpu_regs kernel_regs(const u8 *code)
{
    return (struct cpu_regs){ .rip = (u64)code, .cs = FLAT_RING3_CS64, .rflags = 0x202 };
}

/* --- Decoding ----------------------------------------------------------------------------------- */

/* Registers hold 0x1000 times their number plus one. */
static struct cpu_regs numbered_regs(void)
{
    return (struct cpu_regs){ .rax = 0x1000, .rcx = 0x2000, .rdx = 0x3000, .rbx = 0x4000, .rsp = 0x5000,
        .rbp = 0x6000, .rsi = 0x7000, .rdi = 0x8000, .r8 = 0x9000, .r9 = 0xa000, .r10 = 0xb000, .r11 = 0xc000,
        .r12 = 0xd000, .r13 = 0xe000, .r14 = 0xf000, .r15 = 0x10000, .rip = 0x400000 };
}

struct decode_case {
    enum code_mode mode;
    const char *bytes;
    u8 n, len, op_bytes, seg;
    u64 ea;
};
#define CASE(mode, text, len, op, seg, ea) { MODE_##mode, text, sizeof(text) - 1, len, op, SEG_##seg, ea }

static const struct decode_case decode_cases[] = {
    CASE(64, "\x89\x0f", 2, 4, DS, 0x8000),                               /* mov %ecx,(%rdi) */
    CASE(64, "\x48\x89\x0f", 3, 8, DS, 0x8000),
    CASE(64, "\x66\x89\x0f", 3, 2, DS, 0x8000),
    CASE(64, "\x88\x0f", 2, 1, DS, 0x8000),
    CASE(64, "\x48\x89\x4f\xf8", 4, 8, DS, 0x7ff8),                       /* -8(%rdi) */
    CASE(64, "\x48\x89\x8f\x00\x00\x00\x80", 7, 8, DS, 0xffffffff80008000),
    CASE(64, "\x48\x89\x0c\xc7", 4, 8, DS, 0x8000 + 8 * 0x1000),          /* (%rdi,%rax,8) */
    CASE(64, "\x4a\x89\x0c\xe7", 4, 8, DS, 0x8000 + 8 * 0xd000),          /* (%rdi,%r12,8) */
    CASE(64, "\x48\x89\x0c\x24", 4, 8, SS, 0x5000),                       /* (%rsp) */
    CASE(64, "\x49\x89\x0c\x24", 4, 8, DS, 0xd000),                       /* (%r12) */
    CASE(64, "\x49\x89\x4d\x00", 4, 8, DS, 0xe000),                       /* (%r13) */
    CASE(64, "\x48\x89\x4d\x00", 4, 8, SS, 0x6000),                       /* (%rbp) */
    CASE(64, "\x48\x89\x0c\x25\x44\x33\x22\x11", 8, 8, DS, 0x11223344),   /* absolute */
    CASE(64, "\x48\x89\x0d\x10\x00\x00\x00", 7, 8, DS, 0x400000 + 7 + 0x10), /* 0x10(%rip) */
    CASE(64, "\x48\xc7\x05\x10\x00\x00\x00\x01\x02\x03\x04", 11, 8, DS, 0x400000 + 11 + 0x10),
    CASE(64, "\x67\x89\x0f", 3, 4, DS, 0x8000),                           /* (%edi) */
    CASE(64, "\x64\x48\x89\x0f", 4, 8, FS, 0x8000),
    CASE(64, "\x2e\x48\x89\x0f", 4, 8, DS, 0x8000),                       /* CS: means nothing */
    CASE(64, "\x48\x66\x89\x0f", 4, 2, DS, 0x8000),                       /* a REX not in its place */
    CASE(64, "\x48\xa3\x88\x77\x66\x55\x44\x33\x22\x11", 10, 8, DS, 0x1122334455667788),
    CASE(64, "\xf0\x48\x0f\xb1\x0f", 5, 8, DS, 0x8000),
    CASE(32, "\x89\x0f", 2, 4, DS, 0x8000),
    CASE(32, "\x66\xc7\x07\x34\x12", 5, 2, DS, 0x8000),
    CASE(32, "\xc7\x05\x44\x33\x22\x11\x01\x00\x00\x00", 10, 4, DS, 0x11223344),
    CASE(32, "\x65\x89\x0d\x44\x33\x22\x11", 7, 4, GS, 0x11223344),
    CASE(32, "\x67\x89\x0f", 3, 4, DS, 0x4000),                           /* (%bx) */
    CASE(32, "\x2e\x89\x45\x04", 4, 4, CS, 0x6004),
    CASE(32, "\xa3\x44\x33\x22\x11", 5, 4, DS, 0x11223344),
    CASE(32, "\xff\x5d\x04", 3, 4, SS, 0x6004),                            /* lcall *4(%ebp) */
    CASE(16, "\x89\x42\x01", 3, 2, SS, 0xd001),                           /* 1(%bp,%si) */
    CASE(16, "\x89\x81\x00\xf0", 4, 2, DS, 0xb000),                       /* (%bx,%di) - 0x1000, wraps */
    CASE(16, "\x89\x0e\x34\x12", 4, 2, DS, 0x1234),
    CASE(16, "\x66\xc7\x07\x01\x02\x03\x04", 7, 4, DS, 0x4000),
};

/* Of n bytes, with something else behind them. */
static int decode(struct insn *i, enum code_mode mode, const struct cpu_regs *regs, const u8 *bytes, unsigned n)
{
    struct insn_text text = { .n = n > INSN_MAX ? INSN_MAX : n };

    memset(text.bytes, 0x2e, sizeof(text.bytes));
    memcpy(text.bytes, bytes, text.n);
    return insn_decode(i, mode, regs, &text);
}

static void addresses_and_lengths(void **state)
{
    struct cpu_regs regs = numbered_regs();
    struct insn i;

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(decode_cases); n++) {
        const struct decode_case *c = &decode_cases[n];
        const u8 *bytes = (const u8 *)c->bytes;

        assert_int_equal(decode(&i, c->mode, &regs, bytes, c->n), 0);
        assert_int_equal(i.len, c->len);
        assert_int_equal(i.op_bytes, c->op_bytes);
        assert_true(i.mem);
        assert_int_equal(i.seg, c->seg);
        assert_int_equal(i.ea, c->ea);
        for (unsigned cut = 0; cut < c->n; cut++)
            assert_int_equal(decode(&i, c->mode, &regs, bytes, cut), -EFAULT);
    }
}

static void far_calls(void **state)
{
    static const u8 code[] = { 0x9a, 0x78, 0x56, 0x34, 0x12, 0x07, 0x01 }, narrow[] = { 0x66, 0x9a, 0x34, 0x12, 0x0f, 0x00 };
    struct cpu_regs regs = numbered_regs();
    struct insn i;

    (void)state;
    assert_int_equal(decode(&i, MODE_32, &regs, code, sizeof(code)), 0);
    assert_int_equal(i.len, 7);
    assert_int_equal(i.imm, 0x12345678);
    assert_int_equal(i.selector, 0x107);
    assert_false(i.mem);
    assert_int_equal(decode(&i, MODE_32, &regs, code, sizeof(code) - 1), -EFAULT);
    assert_int_equal(decode(&i, MODE_32, &regs, narrow, sizeof(narrow)), 0);
    assert_int_equal(i.len, 6);
    assert_int_equal(i.selector, 0x0f);
}

static void long_instructions_are_refused(void **state)
{
    u8 bytes[32];
    struct cpu_regs regs = numbered_regs();
    struct insn i;

    (void)state;
    memset(bytes, 0x66, sizeof(bytes));
    assert_int_equal(decode(&i, MODE_64, &regs, bytes, sizeof(bytes)), -E2BIG);
    memcpy(bytes + 13, "\x0f\xa2", 2);
    assert_int_equal(decode(&i, MODE_64, &regs, bytes, 15), 0);
    assert_int_equal(i.len, 15);
    memcpy(bytes + 13, "\x66\x0f\xa2", 3);
    assert_int_equal(decode(&i, MODE_64, &regs, bytes, sizeof(bytes)), -E2BIG);
}

static u64 random64(void)
{
    static u64 x = 88172645463325252UL;

    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

static void any_bytes_are_survived(void **state)
{
    struct cpu_regs regs = numbered_regs();
    struct insn i;
    u8 bytes[16];
    int err;

    (void)state;
    for (unsigned n = 0; n < 300000; n++) {
        memcpy(bytes, (u64[]){ random64(), random64() }, 16);
        if (n & 1)
            bytes[0] = (const u8[]){ 0x0f, 0x48, 0xf0, 0x66 }[n >> 1 & 3];
        err = decode(&i, (enum code_mode)(n % 3), &regs, bytes, INSN_MAX);
        if (err)
            continue;
        assert_in_range(i.len, 1, INSN_MAX);
        assert_true(i.op_bytes == 1 || i.op_bytes == 2 || i.op_bytes == 4 || i.op_bytes == 8);
        assert_int_equal(i.ea & ~size_mask(i.addr_bytes), 0);
        assert_int_equal(decode(&i, (enum code_mode)(n % 3), &regs, bytes, i.len - 1u), -EFAULT);
    }
}

static void registers_of_each_width(void **state)
{
    struct cpu_regs regs = { .rbx = 0x1122334455667788 };
    struct insn plain = { 0 }, rex = { .rex = 0x40 };

    (void)state;
    assert_int_equal(insn_reg_read(&plain, &regs, 7, 1), 0x77);     /* BH */
    assert_int_equal(insn_reg_read(&rex, &regs, 7, 1), 0);          /* DIL */
    insn_reg_write(&plain, &regs, 7, 1, 0xab);
    assert_int_equal(regs.rbx, 0x112233445566ab88);
    insn_reg_write(&plain, &regs, 3, 2, 0xcdef);
    assert_int_equal(regs.rbx, 0x112233445566cdef);
    insn_reg_write(&plain, &regs, 3, 4, 0xffffffff);
    assert_int_equal(regs.rbx, 0xffffffff);
}

/* --- Page-table writes, against the processor --------------------------------------------------- */

struct native {
    u64 rax, rcx, rdx, rbx, rdi, flags;
};
void run_native(struct native *n, void *code);
__asm__(".globl run_native\n"
        "run_native: push %rbx; push %r12; push %r13; mov %rdi, %r12; mov %rsi, %r13\n"
        "mov 0(%r12), %rax; mov 8(%r12), %rcx; mov 16(%r12), %rdx; mov 24(%r12), %rbx; mov 32(%r12), %rdi\n"
        "pushq 40(%r12); popfq; call *%r13; pushfq; popq 40(%r12); cld\n"
        "mov %rax, 0(%r12); mov %rcx, 8(%r12); mov %rdx, 16(%r12); mov %rbx, 24(%r12); mov %rdi, 32(%r12)\n"
        "pop %r13; pop %r12; pop %rbx; ret\n");

#define F_CF 0x001
#define F_ARITH 0x8d5
#define F_LOGIC 0x8c5           /* AF is undefined */
#define F_BIT   0x041           /* CF, and ZF stays */

struct write_case {
    const char *bytes;
    u8 n;
    u16 flags;
};
#define W(text, flags) { text, sizeof(text) - 1, flags }
#define ALU3(op, flags) W(op "\x0f", flags), W("\x48" op "\x0f", flags), W("\x66\xf0" op "\x0f", flags)
#define GROUP(modrm, flags) W("\x80" modrm "\x81", flags), W("\x81" modrm "\x01\x02\x03\x84", flags), \
    W("\xf0\x48\x81" modrm "\x01\x02\x03\x84", flags), W("\x48\x83" modrm "\xfe", flags), \
    W("\x66\x81" modrm "\xff\x7f", flags)

static const struct write_case write_cases[] = {
    ALU3("\x01", F_ARITH), ALU3("\x09", F_LOGIC), ALU3("\x11", F_ARITH), ALU3("\x19", F_ARITH),
    ALU3("\x21", F_LOGIC), ALU3("\x29", F_ARITH), ALU3("\x31", F_LOGIC),
    W("\x00\x0f", F_ARITH), W("\x20\x2f", F_LOGIC), W("\x28\x0f", F_ARITH),
    GROUP("\x07", F_ARITH), GROUP("\x0f", F_LOGIC), GROUP("\x17", F_ARITH), GROUP("\x1f", F_ARITH),
    GROUP("\x27", F_LOGIC), GROUP("\x2f", F_ARITH), GROUP("\x37", F_LOGIC),
    W("\x86\x0f", F_ARITH), W("\x87\x0f", F_ARITH), W("\x48\x87\x0f", F_ARITH), W("\x86\x2f", F_ARITH),
    W("\x88\x2f", F_ARITH), W("\x89\x0f", F_ARITH), W("\x48\x89\x0f", F_ARITH), W("\x66\x89\x0f", F_ARITH),
    W("\x48\x89\x5f\x00", F_ARITH), W("\xc6\x07\x5a", F_ARITH), W("\xc7\x07\x01\x02\x03\x84", F_ARITH),
    W("\x48\xc7\x07\x01\x02\x03\x84", F_ARITH), W("\x66\xc7\x07\x34\x12", F_ARITH),
    W("\xf6\x17", F_ARITH), W("\x48\xf7\x17", F_ARITH), W("\xfe\x07", F_ARITH), W("\xff\x07", F_ARITH),
    W("\x48\xff\x0f", F_ARITH), W("\xfe\x0f", F_ARITH), W("\x66\xff\x0f", F_ARITH),
    W("\xf0\x48\x0f\xab\x0f", F_BIT), W("\x48\x0f\xb3\x0f", F_BIT), W("\x0f\xbb\x0f", F_BIT),
    W("\x66\x0f\xb3\x0f", F_BIT), W("\x48\x0f\xba\x2f\x3f", F_BIT), W("\xf0\x48\x0f\xba\x37\x05", F_BIT),
    W("\x0f\xba\x3f\x45", F_BIT),
    W("\x0f\xb0\x0f", F_ARITH), W("\x0f\xb1\x0f", F_ARITH), W("\xf0\x48\x0f\xb1\x0f", F_ARITH),
    W("\x0f\xc0\x0f", F_ARITH), W("\x0f\xc1\x0f", F_ARITH), W("\x48\x0f\xc1\x0f", F_ARITH),
    W("\x0f\xc3\x0f", F_ARITH), W("\x48\x0f\xc3\x0f", F_ARITH), W("\xf0\x0f\xc7\x0f", F_ARITH),
    W("\xaa", F_ARITH), W("\xab", F_ARITH), W("\x48\xab", F_ARITH),
};

static u8 *code_page(void)
{
    static u8 *page;

    if (!page)
        page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    return page;
}

/* Runs the instruction both ways from the same state. */
static void compare(const struct write_case *c, const struct native *start, u64 memory)
{
    static u64 entry __attribute__((aligned(8)));
    u8 *code = code_page();
    struct native n = *start;
    struct cpu_regs regs = kernel_regs(code);
    struct pt_write w;
    u64 expected, new_entry;

    memcpy(code, c->bytes, c->n);
    code[c->n] = 0xc3;
    n.rdi = (u64)&entry;
    regs.rax = n.rax, regs.rcx = n.rcx, regs.rdx = n.rdx, regs.rbx = n.rbx, regs.rdi = n.rdi;
    regs.rflags = n.flags | 0x202;
    entry = memory;
    run_native(&n, code);
    expected = entry;

    assert_true(pv_decode_pt_write(&regs, &w));
    assert_int_equal(w.linear & ~7UL, (u64)&entry);
    assert_true(pt_write_new_entry(&w, 8, memory, &new_entry));
    pv_finish_pt_write(&regs, &w, 8, memory, true);
    assert_int_equal(new_entry, expected);
    assert_int_equal(regs.rax, n.rax);
    assert_int_equal(regs.rcx, n.rcx);
    assert_int_equal(regs.rdx, n.rdx);
    assert_int_equal(regs.rbx, n.rbx);
    assert_int_equal(regs.rdi, n.rdi);
    assert_int_equal(regs.rflags & c->flags, n.flags & c->flags);
    assert_int_equal(regs.rip, (u64)code + c->n);
}

static void writes_do_what_the_processor_does(void **state)
{
    static const u64 corners[] = { 0, 1, ~0UL, 1UL << 63, 0x7fffffff, 0x80000000 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(write_cases); i++)
        for (unsigned round = 0; round < 400; round++) {
            u64 memory = round & 1 ? random64() : corners[round / 2 % 6];
            struct native n = { .rax = round % 3 ? random64() : memory, .rcx = random64(), .rdx = random64(),
                .rbx = random64(), .flags = random64() & F_ARITH };

            if (round % 3 == 0)
                n.rdx = memory >> 32;
            /* A bit number beyond the entry would reach other memory. */
            if (write_cases[i].flags == F_BIT)
                n.rcx &= 63;
            compare(&write_cases[i], &n, memory);
        }
}

static void partial_entries(void **state)
{
    static u64 entries[2] __attribute__((aligned(16)));
    u8 *code = code_page();
    struct cpu_regs regs = kernel_regs(code);
    struct pt_write w;
    u64 e;

    (void)state;
    memcpy(code, "\xc7\x47\x04\x01\x02\x03\x04", 7);        /* the upper half of an entry */
    regs.rdi = (u64)entries;
    assert_true(pv_decode_pt_write(&regs, &w));
    assert_true(pt_write_new_entry(&w, 8, 0x1111111122222222, &e));
    assert_int_equal(e, 0x0403020122222222);
    assert_true(pt_write_new_entry(&w, 4, 0x1111, &e));
    assert_int_equal(e, 0x04030201);
    regs.rdi += 2;                                          /* two entries at once */
    assert_true(pv_decode_pt_write(&regs, &w));
    assert_false(pt_write_new_entry(&w, 8, 0, &e));
    memcpy(code, "\x48\x89\x07", 3);
    regs.rdi = (u64)entries;
    assert_true(pv_decode_pt_write(&regs, &w));
    assert_false(pt_write_new_entry(&w, 4, 0, &e));
    pv_finish_pt_write(&regs, &w, 8, 0, false);             /* not done: again */
    assert_int_equal(regs.rip, (u64)code);
}

static void repeated_stores_go_one_by_one(void **state)
{
    u8 *code = code_page();
    struct cpu_regs regs = kernel_regs(code);
    struct pt_write w;
    u64 from = 0x55, to = 0;

    (void)state;
    memcpy(code, "\xf3\x48\xa5", 3);                        /* rep movsq */
    regs.rdi = (u64)&to, regs.rsi = (u64)&from, regs.rcx = 2;
    assert_true(pv_decode_pt_write(&regs, &w));
    assert_int_equal(w.operand, 0x55);
    pv_finish_pt_write(&regs, &w, 8, 0, true);
    assert_int_equal(regs.rcx, 1);
    assert_int_equal(regs.rdi, (u64)&to + 8);
    assert_int_equal(regs.rsi, (u64)&from + 8);
    assert_int_equal(regs.rip, (u64)code);
    regs.rsi = (u64)&from, regs.rdi = (u64)&to;
    assert_true(pv_decode_pt_write(&regs, &w));
    pv_finish_pt_write(&regs, &w, 8, 0, true);
    assert_int_equal(regs.rip, (u64)code + 3);
    regs.rip = (u64)code;
    assert_false(pv_decode_pt_write(&regs, &w));            /* nothing left to do */
}

static void not_writes(void **state)
{
    static const char text[][5] = { "\x39\x0f", "\x48\x83\x3f\x01", "\x89\xc8", "\xff\x17", "\xff\x37",
        "\xf7\x07", "\x48\x0f\xc7\x0f", "\x0f\xc7\x37", "\x0f\xba\x27\x01", "\x8b\x0f",
        "\x0f\x20\xc0", "\x66\x0f\xc3\x0f", "\x66\x48\x0f\xc3\x0f", "\xf2\x0f\xc3\x0f",
        "\xf0\x89\x0f", "\xf0\xc6\x07\x01", "\xf0\x0f\xc3\x0f", "\xf0\xab" };
    u8 *code = code_page();
    struct pt_write w;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(text); i++) {
        struct cpu_regs regs = kernel_regs(code);

        regs.rdi = (u64)code;
        memset(code, 0, 16);
        memcpy(code, text[i], 4);
        assert_false(pv_decode_pt_write(&regs, &w));
    }
}

/* --- Fetching ----------------------------------------------------------------------------------- */

static void fetch_at_the_end_of_memory(void **state)
{
    u8 *code = code_page() + 4096 - 2;
    struct cpu_regs regs = kernel_regs(code);

    (void)state;
    memcpy(code, "\x0f\xa2", 2);
    unreadable_from = (u64)code + 2;
    assert_true(pv_emulate_privop(&regs));
    assert_int_equal(regs.rip, (u64)code + 2);
    regs.rip = (u64)code;
    unreadable_from = (u64)code + 1;
    assert_false(pv_emulate_privop(&regs));
    assert_int_equal(regs.rip, (u64)code);
}

/* A 32-bit guest's segment: base 0, limit in bytes. */
static u64 code_descriptor(u64 limit)
{
    return 0x0040fb0000000000 | (limit & 0xffff) | (limit & 0xf0000) << 32;
}

static void code_segment_limits(void **state)
{
    struct cpu_regs regs = { .rip = 0x1000, .cs = 0x61 };
    enum code_mode mode;
    struct insn_text text;

    (void)state;
    dom.arch.word = ABI_32;
    descriptor = code_descriptor(0xfff);
    insn_text(&text, &regs, &mode);
    assert_int_equal(text.n, 0);
    regs.cs = 1;                        /* null */
    insn_text(&text, &regs, &mode);
    assert_int_equal(text.n, 0);
}

static void data_segment_rights(void **state)
{
    struct cpu_regs regs = { .cs = 0x61, .ss = 0x69 };
    struct insn i = { .mode = MODE_32 };
    u64 linear;

    (void)state;
    dom.arch.word = ABI_32;
    descriptor = 0x00cff3000000ffff;    /* flat, writable */
    assert_true(insn_linear(&i, &regs, SEG_SS, 0xfffffffc, 4, true, &linear));
    assert_false(insn_linear(&i, &regs, SEG_SS, 0xfffffffd, 4, true, &linear));
    descriptor = 0x1240f33456780fff;    /* base 0x12345678, limit 0xfff */
    assert_true(insn_linear(&i, &regs, SEG_SS, 0xffc, 4, true, &linear));
    assert_int_equal(linear, 0x12345678 + 0xffc);
    assert_false(insn_linear(&i, &regs, SEG_SS, 0xffd, 4, true, &linear));
    descriptor = 0x00cff1000000ffff;    /* read-only */
    assert_false(insn_linear(&i, &regs, SEG_SS, 0, 4, true, &linear));
    assert_true(insn_linear(&i, &regs, SEG_SS, 0, 4, false, &linear));
    descriptor = 0x00cffb000000ffff;    /* code */
    assert_false(insn_linear(&i, &regs, SEG_CS, 0, 4, true, &linear));
    assert_true(insn_linear(&i, &regs, SEG_CS, 0, 4, false, &linear));
    descriptor = 0x0040f70000000fff;    /* expands down: from 0x1000 up */
    assert_false(insn_linear(&i, &regs, SEG_SS, 0xfff, 1, true, &linear));
    assert_true(insn_linear(&i, &regs, SEG_SS, 0x1000, 4, true, &linear));
    descriptor = 0x00cf73000000ffff;    /* not present */
    assert_false(insn_linear(&i, &regs, SEG_SS, 0, 4, true, &linear));
}

/* --- Privileged operations ---------------------------------------------------------------------- */

static bool run(const char *text, unsigned n, struct cpu_regs *regs)
{
    u8 *code = code_page();

    memset(code, 0xcc, 32);
    memcpy(code, text, n);
    regs->rip = (u64)code, regs->cs = FLAT_RING3_CS64;
    if (!pv_emulate_privop(regs))
        return false;
    return regs->rip == (u64)code + n;
}
#define RUN(text, regs) run(text, sizeof(text) - 1, regs)

static void control_registers(void **state)
{
    struct cpu_regs regs = { .rax = 0x5000 };

    (void)state;
    assert_true(RUN("\x0f\x22\xd8", &regs));                /* mov %rax,%cr3 */
    assert_int_equal(cr3_written, 0x5000);
    regs.rax = 0x5001;
    assert_false(RUN("\x0f\x22\xd8", &regs));
    /* What the root waits for goes on before the instruction executes again: for ever, else. */
    regs.rax = 0x5002;
    assert_false(RUN("\x0f\x22\xd8", &regs));
    assert_int_equal(regs.rip, (u64)code_page());
    assert_int_equal(steps_to_mirrors, 1);
    assert_true(RUN("\x41\x0f\x20\xd9", &regs));            /* mov %cr3,%r9 */
    assert_int_equal(regs.r9, 0x123000);
    regs.rax = 0xdeadbeef000;
    assert_true(RUN("\x0f\x22\xd0", &regs));                /* mov %rax,%cr2 */
    assert_true(RUN("\x0f\x20\xd3", &regs));                /* mov %cr2,%rbx */
    assert_int_equal(regs.rbx, 0xdeadbeef000);
    regs.rax = CR4_TSD;
    assert_true(RUN("\x0f\x22\xe0", &regs));
    assert_int_equal(vcpu.arch.cr[4], CR4_TSD);
    assert_false(RUN("\x44\x0f\x20\xc0", &regs));           /* mov %cr8,%rax */
    assert_false(RUN("\xf0\x0f\x20\xd8", &regs));           /* lock */
    vcpu.arch.ts = true;
    assert_true(RUN("\x0f\x06", &regs));                    /* clts */
    assert_false(vcpu.arch.ts);
    regs.rcx = 0;
    assert_true(RUN("\x0f\x01\xd1", &regs) || injected == X86_VEC_UD);
    assert_int_equal(injected, X86_VEC_UD);                 /* xsetbv without OSXSAVE */
    vcpu.arch.cr[4] = CR4_OSXSAVE;
    assert_true(RUN("\x0f\x01\xd1", &regs));
    assert_false(RUN("\xf2\x0f\x01\xd1", &regs));         /* with one of these before it there is no such instruction */
    assert_false(RUN("\x66\x48\x0f\x01\xd1", &regs));
}

static void user_mode_has_none_of_it(void **state)
{
    static const char *const kernel_only[] = { "\x0f\x20\xd8", "\x0f\x22\xd8", "\x0f\x06\x90",
        "\x0f\x30\x90", "\x0f\x32\x90", "\x0f\x23\xc0", "\x0f\x09\x90", "\xf4\x90\x90", "\x0f\x01\xd1",
        "\xfa\x90\x90", "\xec\x90\x90" };
    struct cpu_regs regs = { .rcx = 1 };

    (void)state;
    vcpu.arch.kernel_mode = false;
    vcpu.arch.iopl = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(kernel_only); i++)
        assert_false(run(kernel_only[i], 3, &regs));
    assert_true(RUN("\x0f\xa2", &regs));
    assert_true(RUN("\x0f\x31", &regs));
    assert_int_equal(regs.rdx, 5);
    assert_true(RUN("\x0f\x01\xf9", &regs));
    vcpu.arch.cr[4] = CR4_TSD;
    assert_false(RUN("\x0f\x31", &regs));
}

static void msrs(void **state)
{
    struct cpu_regs regs = { .rcx = 0xffffffff00000010, .rax = 0xabcdef0011111111, .rdx = 0x22222222 };

    (void)state;
    assert_true(RUN("\x0f\x30", &regs));
    assert_int_equal(msr_written, 0x2222222211111111);
    assert_true(RUN("\x0f\x32", &regs));
    assert_int_equal(regs.rax, 0x55667788);
    assert_int_equal(regs.rdx, 0x11223344);
    regs.rcx = 0;
    assert_false(RUN("\x0f\x32", &regs));
    assert_false(RUN("\x0f\x33", &regs));                   /* rdpmc */
}

static void halting_and_flags(void **state)
{
    struct cpu_regs regs = { .rflags = RFLAGS_RF | 2 };

    (void)state;
    assert_true(RUN("\xf4", &regs));
    assert_true(blocked);
    assert_int_equal(regs.rflags, 2);
    assert_false(RUN("\xfa", &regs));                       /* IOPL 0 does not cover ring 1 */
    vcpu.arch.iopl = 1;
    assert_true(RUN("\xfa", &regs));
    regs.rflags |= RFLAGS_TF;
    assert_true(RUN("\xfb", &regs));
    assert_int_equal(injected, X86_VEC_DB);
}

static void ports(void **state)
{
    static u8 bitmap[64];
    struct cpu_regs regs = { .rax = 0x1111111111111111, .rdx = 0x80 };
    u32 buffer = 0;

    (void)state;
    assert_false(RUN("\xec", &regs));                       /* neither level nor bitmap */
    vcpu.arch.iopl = 1;
    assert_true(RUN("\xec", &regs));                        /* no such device */
    assert_int_equal(regs.rax, 0x11111111111111ff);
    assert_true(RUN("\xef", &regs));
    regs.rdx = 0xcfc;
    assert_true(RUN("\xed", &regs));
    assert_int_equal(regs.rax, 0xcfc04);
    vcpu.arch.iopl = 0;
    vcpu.arch.kernel_mode = false;
    vcpu.arch.iobitmap = gva((u64)bitmap), vcpu.arch.iobitmap_ports = 512;
    memset(bitmap, 0xff, sizeof(bitmap));
    bitmap[0x60 / 8] = 0xfe;
    assert_true(RUN("\xe4\x60", &regs));
    assert_false(RUN("\xe5\x60", &regs));                   /* four ports, one allowed */
    regs.rdx = 512;
    bitmap[63] = 0;
    assert_false(RUN("\xec", &regs));
    regs.rdx = 0x60, regs.rdi = (u64)&buffer, regs.rcx = 3;
    assert_true(RUN("\xf3\x6c", &regs));
    assert_int_equal(buffer, 0xffffff);
    assert_int_equal(regs.rdi, (u64)&buffer + 3);
    regs.rdi = 16, regs.rcx = 1;
    assert_false(RUN("\xf3\x6c", &regs));                   /* RIP stays: the guest gets a page fault */
    assert_int_equal(injected, X86_VEC_PF);
    assert_int_equal(injected_address, 16);
    regs.rdi = (u64)code_page() + 64, regs.rcx = 600;
    assert_false(RUN("\xf3\x6c", &regs));                   /* goes on after a batch */
    assert_int_equal(regs.rcx, 600 - 512);
}

/* The frame of #DB, whose handler's return loads some of them, is written at once. */
static void a_single_step_finds_all_that_was_done(void **state)
{
    static const struct { const char *name; u8 code[16]; } cases[] = {
        { "rdtsc", { 0x0f, 0x31 } }, { "rdtscp", { 0x0f, 0x01, 0xf9 } }, { "cpuid", { 0x0f, 0xa2 } }, { "rdmsr", { 0x0f, 0x32 } },
        { "mov rcx, cr3", { 0x0f, 0x20, 0xd9 } }, { "mov rcx, dr1", { 0x0f, 0x21, 0xc9 } }, { "in al, dx", { 0xec } },
        { "insb", { 0x6c } },
    };
    u8 buffer[16];

    (void)state;
    vcpu.arch.tsc_aux = 77;
    vcpu.arch.iopl = 3;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct cpu_regs regs = kernel_regs(cases[i].code);

        regs.rflags |= RFLAGS_TF;
        regs.rcx = 1;
        regs.rdi = (u64)buffer;
        stepped = &regs;
        injected = -1;
        if (!pv_emulate_privop(&regs) || injected != 1 || memcmp(&regs, &as_injected, sizeof(regs)))
            fail_msg("%s: trap %d, rcx %#lx, in its frame %#lx", cases[i].name, injected, (unsigned long)regs.rcx,
                     (unsigned long)as_injected.rcx);
    }
    stepped = NULL;
}

static void forced_cpuid(void **state)
{
    static const u8 code[16] = "\x0f\x0bxen\x0f\xa2";
    static const u8 other[16] = "\x0f\x0bxen\x0f\x31";
    struct cpu_regs regs = kernel_regs(code);

    (void)state;
    regs.rax = 0x40000000, regs.rcx = 9;
    assert_true(pv_emulate_forced(&regs));
    assert_int_equal(regs.rip, (u64)code + 7);
    assert_int_equal(regs.rbx, 9);
    assert_int_equal(regs.rdx, 4);
    regs = kernel_regs(other);
    assert_false(pv_emulate_forced(&regs));
}

/*
 * Tries all first three bytes. Whatever take() takes, the decoder proper reads the same way, as a MOV or XCHG of so many bytes in one of
 * these segments. Returns how many it takes.
 */
static unsigned plain_writes_of(bool (*take)(struct cpu_regs *, u64, struct plain_write *), enum code_mode mode, unsigned bytes,
                                enum segment seg, enum segment or_seg)
{
    u8 code[32] = { 0, 0, 0, 0x88, 0x77, 0x66, 0xf5, 0x11 };
    unsigned taken = 0;

    for (unsigned n = 0; n < 1u << 24; n++) {
        struct cpu_regs regs = numbered_regs();
        struct insn_text text = { .n = INSN_MAX };
        struct plain_write w;
        struct insn i;
        u64 start;

        memcpy(code, &n, 3);
        memcpy(&start, code, 8);
        if (!take(&regs, start, &w))
            continue;
        memcpy(text.bytes, code, sizeof(text.bytes));
        assert_int_equal(insn_decode(&i, mode, &regs, &text), 0);
        assert_true(i.mem && !i.lock && !i.rep && i.map == 0 && i.op_bytes == bytes && (i.seg == seg || i.seg == or_seg));
        assert_int_equal(i.opcode, w.exchanges ? 0x87 : 0x89);
        assert_int_equal(i.len, w.len);
        assert_int_equal(i.ea, w.linear);
        assert_int_equal(insn_reg_read(&i, &regs, i.reg, bytes), *w.reg & size_mask(bytes));
        taken++;
    }
    return taken;
}

/* What kernels' compilers make of a store. */
static void plain_writes(void **state)
{
    (void)state;
    /* 4 prefixes, 2 opcodes, 8 registers, 3 kinds of displacement, 7 bases of which one has no kind without. */
    assert_int_equal(plain_writes_of(insn_plain_write, MODE_64, 8, SEG_DS, SEG_SS), 4 * 2 * 8 * (3 * 7 - 1));
}

/* Whole-register writes of 32-bit code, whose offsets are in DS. */
static void plain_writes_32(void **state)
{
    (void)state;
    /* 2 opcodes, 8 registers, 3 kinds of displacement, 6 bases, and any third byte. */
    assert_int_equal(plain_writes_of(insn_plain_write_32, MODE_32, 4, SEG_DS, SEG_DS), 2 * 8 * 3 * 6 * 256);
}

/* at: where the three bytes stand that take all values, behind a LOCK or not. */
static unsigned plain_cmpxchg8b_at(unsigned at)
{
    u8 code[32] = { 0xf0, 0, 0, 0x88, 0x77, 0x66, 0xf5, 0x11 };
    unsigned taken = 0;

    for (unsigned n = 0; n < 1u << 24; n++) {
        struct cpu_regs regs = numbered_regs();
        struct insn_text text = { .n = INSN_MAX };
        struct plain_cmpxchg8b c;
        struct insn i;
        u64 start;

        memcpy(code + at, &n, 3);
        memcpy(&start, code, 8);
        if (!insn_plain_cmpxchg8b(&regs, start, &c))
            continue;
        memcpy(text.bytes, code, sizeof(text.bytes));
        assert_int_equal(insn_decode(&i, MODE_32, &regs, &text), 0);
        assert_true(i.mem && i.lock == (code[0] == 0xf0) && !i.rep && i.map == 1 && i.seg == SEG_DS);
        assert_true(i.opcode == 0xc7 && (i.modrm >> 3 & 7) == 1);
        assert_int_equal(i.len, c.len);
        assert_int_equal(i.ea, c.linear);
        assert_int_equal(c.expected, (regs.rdx & 0xffffffff) << 32 | (regs.rax & 0xffffffff));
        assert_int_equal(c.value, (regs.rcx & 0xffffffff) << 32 | (regs.rbx & 0xffffffff));
        taken++;
    }
    return taken;
}

static void plain_cmpxchg8b(void **state)
{
    (void)state;
    /* 3 kinds of displacement, 6 bases; and one with LOCK, whose ModRM is the fourth byte. */
    assert_int_equal(plain_cmpxchg8b_at(0), 3 * 6 + 1);
    assert_int_equal(plain_cmpxchg8b_at(1), 3 * 6);
}

#define T(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(addresses_and_lengths), T(far_calls), T(long_instructions_are_refused), T(any_bytes_are_survived),
        T(registers_of_each_width), T(writes_do_what_the_processor_does), T(partial_entries),
        T(repeated_stores_go_one_by_one), T(not_writes), T(fetch_at_the_end_of_memory),
        T(code_segment_limits), T(data_segment_rights), T(control_registers),
        T(user_mode_has_none_of_it), T(msrs),
        T(halting_and_flags), T(ports), T(a_single_step_finds_all_that_was_done), T(forced_cpuid), T(plain_writes), T(plain_writes_32),
        T(plain_cmpxchg8b),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
