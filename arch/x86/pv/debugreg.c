/*
 * Guests' debug registers (Intel SDM vol. 3 chapter 17.2). What gets into the CPU's DR7 can stop only a
 * guest's own code and data: breakpoints on the hypervisor's addresses and general detection are refused.
 * Breakpoints on I/O ports (CR4.DE) are kept but never get into the CPU, where the hypervisor's own port
 * accesses would meet them: the emulation of IN and OUT looks at them.
 */
#include <asm/emulate.h>
#include <asm/nospec.h>
#include <asm/percpu.h>
#include <asm/x86.h>
#include <asm/guest_mem.h>
#include <public/errno.h>
#include <pvisor/printk.h>

#define DR6_RESERVED_CLEAR 0x1000UL
#define DR7_RESERVED_CLEAR 0xd800UL
#define DR7_GD             0x2000UL
#define DR7_ENABLED        0xffUL
#define DR7_IO             2            /* R/W field of a breakpoint on I/O ports */

static bool enabled(u64 dr7, unsigned n) { return dr7 >> (2 * n) & 3; }
static bool is_io(u64 dr7, unsigned n) { return (dr7 >> (16 + 4 * n) & 3) == DR7_IO; }

/* What of it the CPU may have: no breakpoint on I/O. */
static u64 hw_dr7(u64 dr7)
{
    u64 hw = dr7;

    for (unsigned n = 0; n < 4; n++)
        if (is_io(dr7, n))
            hw &= ~(3UL << (2 * n) | 15UL << (16 + 4 * n));
    return hw;
}

static bool armed(const struct vcpu *v)
{
    return unlikely(v->arch.debugreg[7] & DR7_ENABLED) && hw_dr7(v->arch.debugreg[7]) & DR7_ENABLED;
}

static void load_addresses(const struct vcpu *v)
{
    write_dr0(v->arch.debugreg[0]);
    write_dr1(v->arch.debugreg[1]);
    write_dr2(v->arch.debugreg[2]);
    write_dr3(v->arch.debugreg[3]);
}

/* All that counts, on this CPU, for v. */
static void load_all(const struct vcpu *v)
{
    load_addresses(v);
    write_dr6(DR6_RESERVED_SET);
    write_dr7(hw_dr7(v->arch.debugreg[7]));
}

void debugreg_ctxt_switch(struct vcpu *prev, struct vcpu *next)
{
    if (unlikely(armed(prev)))
        write_dr7(DR7_RESERVED_SET);
    if (unlikely(armed(next)))
        load_all(next);
}

void debugreg_take_db(struct vcpu *v)
{
    v->arch.debugreg[6] |= read_dr6() & ~DR6_RESERVED_SET;
    write_dr6(DR6_RESERVED_SET);
}

static int set_dr7(struct vcpu *v, u64 value)
{
    bool was = armed(v);

    if (value >> 32)
        return refuse(-EINVAL, "DR7 %#lx has more than 32 bits", value);
    value = (value & ~DR7_RESERVED_CLEAR) | DR7_RESERVED_SET;
    if (value & DR7_GD)
        return refuse(-EPERM, "DR7 %#lx asks for general detection", value);
    for (unsigned n = 0; n < 4 && !(v->arch.cr[4] & CR4_DE); n++)
        if (enabled(value, n) && is_io(value, n))
            return refuse(-EPERM, "DR7 %#lx has a breakpoint on I/O, and CR4.DE is clear", value);
    v->arch.debugreg[7] = value;
    if (v != current || !(was || armed(v)))
        return 0;
    if (!was)
        load_all(v);
    write_dr7(armed(v) ? hw_dr7(value) : DR7_RESERVED_SET);
    return 0;
}

static int set_address(struct vcpu *v, unsigned n, u64 value)
{
    if (!guest_range_ok(v->domain, value, 8))
        return refuse(-EPERM, "breakpoint on %#lx, which is not the guest's", value);
    v->arch.debugreg[n] = value;
    if (v == current && armed(v))
        load_addresses(v);
    return 0;
}

bool debugreg_io(struct vcpu *v, u16 port, unsigned bytes)
{
    static const u8 lengths[] = { 1, 2, 8, 4 };
    u64 dr7 = v->arch.debugreg[7], hit = 0;

    if (likely(!(dr7 & DR7_ENABLED)) || !(v->arch.cr[4] & CR4_DE))
        return false;
    for (unsigned n = 0; n < 4; n++) {
        u64 length = lengths[dr7 >> (18 + 4 * n) & 3], first = v->arch.debugreg[n] & ~(length - 1);

        if (enabled(dr7, n) && is_io(dr7, n) && port < first + length && first < (u64)port + bytes)
            hit |= 1UL << n;
    }
    v->arch.debugreg[6] |= hit;
    return hit;
}

/* DR4 and DR5 are other names of DR6 and DR7 unless debugging extensions are on. */
static int register_number(const struct vcpu *v, unsigned n)
{
    if (n > 7)
        return -EINVAL;
    n = (unsigned)index_nospec(n, 8);
    if (n != 4 && n != 5)
        return (int)n;
    return v->arch.cr[4] & CR4_DE ? -ENODEV : (int)n + 2;
}

int pv_set_debugreg(struct vcpu *v, unsigned n, u64 value)
{
    int r = register_number(v, n);

    if (r < 0)
        return r;
    if (r == 7)
        return set_dr7(v, value);
    if (r < 4)
        return set_address(v, (unsigned)r, value);
    if (value >> 32)
        return refuse(-EINVAL, "DR6 %#lx has more than 32 bits", value);
    v->arch.debugreg[6] = (value & ~DR6_RESERVED_CLEAR) | DR6_RESERVED_SET;
    return 0;
}

int pv_get_debugreg(const struct vcpu *v, unsigned n, u64 *value)
{
    int r = register_number(v, n);

    if (r < 0)
        return r;
    *value = v->arch.debugreg[r];
    if (r == 6)
        *value |= DR6_RESERVED_SET;
    else if (r == 7)
        *value |= DR7_RESERVED_SET;
    return 0;
}

s64 do_set_debugreg(u64 reg, u64 value, u64, u64, u64, u64)
{
    return pv_set_debugreg(current, (u32)reg, value);
}

s64 do_get_debugreg(u64 reg, u64, u64, u64, u64, u64)
{
    u64 value;
    int err = pv_get_debugreg(current, (u32)reg, &value);

    return err ? err : (s64)value;
}
