/* What tools ask of a CPU and dom0's ACPI interpreter tells of it: registers, idle and performance states. What the screen is. */
// SOURCES: common/platform/resource.c common/platform/processor.c common/platform/screen.c common/control/pm.c common/abi.c
// SOURCES: tests/unit/fake/machine.c
// SOURCES: tests/unit/fake/log.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/features.h>
#include <asm/idle.h>
#include <asm/smp.h>
#include <common/control/internal.h>
#include <common/platform/internal.h>
#include <pvisor/acpi.h>
#include <pvisor/efi.h>
#include <pvisor/irq.h>
#include <pvisor/time.h>
#include <pvisor/vga.h>
#include "fake/fake.h"
#include "fake/log.h"

struct cpu_host cpu_host;
struct acpi_info acpi_info = { .nr_cpus = 3, .cpu = { { 0, 10 }, { 4, 11 }, { 9, 12 } } };
u32 cpu_apic_ids[NR_CPUS] = { 0, 4 };           /* the third does not run */
static u64 msr[0x1000], now = 1000;
static unsigned called_cpu;

/* Registers from 0xf00 on do not exist. */
int rdmsr_safe(u32 n, u64 *v) { return n < 0xf00 ? (void)(*v = msr[n]), 0 : -EFAULT; }
int wrmsr_safe(u32 n, u64 v) { return n < 0xf00 ? (void)(msr[n] = v), 0 : -EFAULT; }
u64 now_ns(void) { return now; }
u64 tsc_khz(void) { return 2000000; }
u64 vcpu_runtime(struct vcpu *v) { (void)v; return 77; }
struct idle_stat idle_stat(unsigned cpu) { return (struct idle_stat){ .waits = 5 + cpu, .ticks = 1400 }; }
void smp_call(const cpumask_t *cpus, void (*fn)(void *), void *data)
{
    called_cpu = cpumask_next(cpus, 0);
    fn(data);
}


struct efi_info efi_info;
static enum vga_mode screen_mode;
static struct framebuffer framebuffer;
enum vga_mode vga_mode(void) { return screen_mode; }
const struct framebuffer *vga_framebuffer(void) { return &framebuffer; }
struct vga_text_state vga_text_state(void)
{
    return (struct vga_text_state){ .columns = 80, .rows = 50, .cursor_x = 7, .cursor_y = 49, .font_height = 8 };
}

static enum abi_word word;
static struct xen_platform_op op;
static gva_t list;

static void fresh_of(enum abi_word w)
{
    fake_reset();
    log_clear();
    word = w;
    fake_run(fake_domain(0, w, 1, true), 0);
    fake_set_cpu(0);
    nr_cpus = 2;
    cpumask_zero(&cpu_online_map);
    cpumask_set(&cpu_online_map, 0);
    cpumask_set(&cpu_online_map, 1);
    memset(msr, 0, sizeof(msr));
    memset(&op, 0, sizeof(op));
    cpu_host.feat[FEATURESET_7b0] = 1u << 12;   /* PQM */
    list = fake_guest_alloc(PAGE_SIZE);
    called_cpu = ~0u;
}
static int fresh(void **state) { (void)state; fresh_of(ABI_64); return 0; }
static int fresh_32(void **state) { (void)state; fresh_of(ABI_32); return 0; }

/* --- Registers --- */

static struct xenpf_resource_entry *entry(unsigned n) { return (struct xenpf_resource_entry *)fake_guest(list) + n; }

static s64 resource(u32 cpu, u32 nr)
{
    struct xenpf_resource_op r = { .nr_entries = nr, .cpu = cpu, .entries = list.v };

    assert_true(abi_encode(word, &xenpf_resource_op_desc, op.u.pad, &r));
    return op_resource(&op);
}

static void set_entry(unsigned n, u32 cmd, u64 idx, u64 val) { *entry(n) = (struct xenpf_resource_entry){ { cmd }, 0, idx, val }; }

static void registers_of_cache_monitoring_and_the_time(void **state)
{
    (void)state;
    msr[0xc8e] = 4711;
    set_entry(0, XEN_RESOURCE_OP_MSR_WRITE, 0xc8d, 3);
    set_entry(1, XEN_RESOURCE_OP_MSR_READ, 0xc8e, 0);
    set_entry(2, XEN_RESOURCE_OP_MSR_READ, 0x10, 0);
    assert_int_equal(resource(1, 3), 3);
    assert_int_equal(called_cpu, 1);
    assert_int_equal(msr[0xc8d], 3);
    assert_int_equal(entry(1)->val, 4711);
    assert_int_equal(entry(2)->val, now);
    set_entry(0, XEN_RESOURCE_OP_MSR_READ, 0x10, 0);
    called_cpu = ~0u;
    assert_int_equal(resource(0, 1), 1);
    assert_int_equal(called_cpu, ~0u);
    assert_int_equal(resource(0, 0), 0);
}

/* What comes before is done, what comes after is not, and the entry says why. */
static void each_refusal_is_in_its_entry(void **state)
{
    static const struct { u32 cmd, rsvd; u64 idx; s32 err; } cases[] = {
        { 2, 0, 0x10, -EOPNOTSUPP }, { ~0u, 0, 0x10, -EOPNOTSUPP }, { 0, 1, 0x10, -EINVAL }, { 1, 0, 0x10, -EPERM },
        { 0, 0, 0x1a0, -EACCES }, { 1, 0, 0x1b, -EACCES }, { 0, 0, 0x100000010, -EACCES }, { 0, 0, 0xc8f, -EACCES },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        set_entry(0, XEN_RESOURCE_OP_MSR_WRITE, 0xc8d, 40 + i);
        set_entry(1, cases[i].cmd, cases[i].idx, 0);
        entry(1)->rsvd = cases[i].rsvd;
        set_entry(2, XEN_RESOURCE_OP_MSR_WRITE, 0xc8d, 99);
        assert_int_equal(resource(1, 3), 1);
        assert_int_equal(msr[0xc8d], 40 + i);
        assert_int_equal(entry(1)->u.ret, cases[i].err);
        assert_int_equal(entry(2)->u.cmd, XEN_RESOURCE_OP_MSR_WRITE);
    }
    cpu_host.feat[FEATURESET_7b0] = 0;
    set_entry(0, XEN_RESOURCE_OP_MSR_READ, 0xc8e, 0);
    assert_int_equal(resource(1, 1), 0);
    assert_int_equal(entry(0)->u.ret, -EACCES);
    assert_int_equal(resource(1, 4), -E2BIG);
    assert_int_equal(resource(1, ~0u), -E2BIG);
    assert_int_equal(resource(2, 1), -ENODEV);
    assert_int_equal(resource(~0u, 1), -ENODEV);
    list = gva(0x1000);         /* nothing is there */
    assert_int_equal(resource(1, 1), -EFAULT);
}

/* --- States --- */

static s64 upload(u32 id, u32 type, const struct abi_desc *d, const void *body)
{
    op.u.set_pminfo.id = id;
    op.u.set_pminfo.type = type;
    if (d)
        assert_true(abi_encode(word, d, op.u.pad + 8, body));
    return op_processor_info(&op);
}

static void put_cx(unsigned n, u8 type)
{
    struct xen_processor_cx cx = { .type = type };

    assert_true(abi_encode(word, &xen_processor_cx_desc, fake_guest(guest_abi_elem(xen_processor_cx, list, n)), &cx));
}

static s64 upload_cx(u32 id, u32 count)
{
    struct xen_processor_power p = { .count = count, .states = list.v };

    return upload(id, XEN_PM_CX, &xen_processor_power_desc, &p);
}

static void idle_states_are_checked_and_told(void **state)
{
    (void)state;
    put_cx(0, 1);
    put_cx(1, 3);
    assert_int_equal(upload_cx(11, 2), 0);
    assert_non_null(strstr(log_text, "CPU1: the firmware offers 2 idle states down to C3; C1 is used"));
    assert_int_equal(upload_cx(12, 2), -EINVAL);        /* of the table, and does not run */
    assert_int_equal(upload_cx(~0u, 2), -EINVAL);
    assert_int_equal(upload_cx(11, 0), -EINVAL);
    assert_int_equal(upload_cx(11, 9), -EINVAL);
    assert_int_equal(upload_cx(11, ~0u), -EINVAL);
    put_cx(1, 4);
    assert_int_equal(upload_cx(11, 2), -EINVAL);
    put_cx(1, 0);
    assert_int_equal(upload_cx(11, 2), -EINVAL);
    fake.reads_before_fault = 2;
    assert_int_equal(upload_cx(11, 2), -EFAULT);
}

static void performance_states_are_checked_and_told(void **state)
{
    struct xen_processor_performance p = { .flags = 0xf, .state_count = 3, .states = list.v };
    struct xen_processor_px *px = fake_guest(list);

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        px[i].core_frequency = 3600 - 1000 * i;
    assert_int_equal(upload(10, XEN_PM_PX, &xen_processor_performance_desc, &p), 0);
    assert_non_null(strstr(log_text, "CPU0: the firmware offers 3 frequencies, 1600 to 3600 MHz; they are left to it"));
    p.state_count = 256;
    assert_int_equal(upload(10, XEN_PM_PX, &xen_processor_performance_desc, &p), -EINVAL);
    p.state_count = 0;
    assert_int_equal(upload(10, XEN_PM_PX, &xen_processor_performance_desc, &p), -EINVAL);
    p.state_count = 3;
    fake.reads_before_fault = 3;
    assert_int_equal(upload(10, XEN_PM_PX, &xen_processor_performance_desc, &p), -EFAULT);
    assert_int_equal(upload(10, XEN_PM_TX, NULL, NULL), -EINVAL);
    assert_int_equal(upload(10, 4, NULL, NULL), -EINVAL);
}

/* As Linux says it: revision 1, one word, all that it can do. */
static void the_firmware_is_told_of_c1_alone(void **state)
{
    u32 *pdc = fake_guest(list);
    u64 at = list.v;

    (void)state;
    pdc[0] = pdc[1] = 1;
    pdc[2] = ~0u;
    memcpy(op.u.pad + 8, &at, abi_word_bytes(word));
    assert_int_equal(upload(~0u, XEN_PM_PDC, NULL, NULL), 0);
    assert_int_equal(pdc[2], 0x10a);
    pdc[1] = 0;
    assert_int_equal(upload(~0u, XEN_PM_PDC, NULL, NULL), -EINVAL);
}

/* --- Figures --- */

static s64 pmstat(struct xen_sysctl *s, u32 type, u32 cpu)
{
    s->u.get_pmstat.type = type;
    s->u.get_pmstat.cpuid = cpu;
    return sc_get_pmstat(s);
}

static void figures_of_idle_cpus_are_what_was_counted(void **state)
{
    static struct vcpu idle[2];
    static struct vcpu *idle_vcpus[] = { &idle[0], &idle[1] };
    static struct domain idle_dom = { .vcpu = idle_vcpus, .max_vcpus = 2 };
    struct xen_sysctl s = { 0 };
    struct pm_cx_stat *cx = &s.u.get_pmstat.u.getcx;
    u64 *triggers = fake_guest(list), *residencies = triggers + 10;

    (void)state;
    idle_domain = &idle_dom;
    assert_int_equal(pmstat(&s, PMSTAT_get_max_cx, 1), 0);
    assert_int_equal(cx->nr, 2);
    *cx = (struct pm_cx_stat){ .nr = 5, .triggers = list.v, .residencies = list.v + 80, .nr_pc = 12, .nr_cc = 8 };
    assert_int_equal(pmstat(&s, PMSTAT_get_cxstat, 1), 0);
    assert_int_equal(cx->nr, 2);
    assert_int_equal(cx->last, 1);
    assert_int_equal(cx->idle_time, 77);
    assert_int_equal(triggers[1], 6);
    assert_int_equal(residencies[1], 700);      /* 1400 ticks at 2 GHz */
    assert_int_equal(residencies[0], 300);
    assert_int_equal(cx->nr_pc, 0);
    /* No more is written than there is room for. */
    triggers[1] = 99;
    cx->nr = 1;
    assert_int_equal(pmstat(&s, PMSTAT_get_cxstat, 1), 0);
    assert_int_equal(triggers[1], 99);
    assert_int_equal(pmstat(&s, PMSTAT_get_cxstat, 2), -EINVAL);
    assert_int_equal(pmstat(&s, PMSTAT_get_cxstat, ~0u), -EINVAL);
    assert_int_equal(pmstat(&s, PMSTAT_reset_cxstat, 0), -EOPNOTSUPP);
    assert_int_equal(pmstat(&s, PMSTAT_get_max_px, 0), -ENODEV);
    assert_int_equal(pmstat(&s, PMSTAT_get_pxstat, 0), -ENODEV);
    assert_int_equal(pmstat(&s, 0x30, 0), -EINVAL);
}

/* --- The screen --- */

static const struct dom0_vga_console_info *console(enum vga_mode mode)
{
    screen_mode = mode;
    memset(&op.u, 0xee, sizeof(op.u));
    assert_int_equal(op_console(&op), sizeof(struct dom0_vga_console_info));
    return &op.u.dom0_console;
}

static void the_screen_is_told_of(void **state)
{
    const struct dom0_vga_console_info *c = console(VGA_TEXT);

    (void)state;
    assert_int_equal(c->video_type, XEN_VGATYPE_TEXT_MODE_3);
    assert_int_equal(c->u.text_mode_3.rows << 16 | c->u.text_mode_3.columns, 50 << 16 | 80);
    assert_int_equal(c->u.text_mode_3.cursor_y << 16 | c->u.text_mode_3.cursor_x, 49 << 16 | 7);
    assert_int_equal(c->u.text_mode_3.font_height, 8);
    framebuffer = (struct framebuffer){ .address = 0x380000000, .pitch = 4100, .width = 1024, .height = 768, .bits = 32,
                                        .red = { 16, 8 }, .green = { 8, 8 }, .blue = { 0, 8 } };
    c = console(VGA_GRAPHICS);
    assert_int_equal(c->video_type, XEN_VGATYPE_VESA_LFB);
    assert_int_equal(c->u.vesa_lfb.lfb_base, 0x80000000);
    assert_int_equal(c->u.vesa_lfb.ext_lfb_base, 3);
    assert_int_equal(c->u.vesa_lfb.lfb_size, 49);       /* 3,148,800 bytes: begun units of 64 KiB */
    assert_int_equal(c->u.vesa_lfb.rsvd_pos << 8 | c->u.vesa_lfb.rsvd_size, 24 << 8 | 8);
    assert_int_equal(c->u.vesa_lfb.gbl_caps, 0);
    efi_info.present = true;
    assert_int_equal(console(VGA_GRAPHICS)->video_type, XEN_VGATYPE_EFI_LFB);
    efi_info.present = false;
    screen_mode = VGA_NONE;
    assert_int_equal(op_console(&op), -ENODEV);
}

#define BOTH(test) { #test " (64)", test, fresh, NULL, NULL }, { #test " (32)", test, fresh_32, NULL, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(registers_of_cache_monitoring_and_the_time),
        BOTH(each_refusal_is_in_its_entry),
        BOTH(idle_states_are_checked_and_told),
        BOTH(performance_states_are_checked_and_told),
        BOTH(the_firmware_is_told_of_c1_alone),
        BOTH(figures_of_idle_cpus_are_what_was_counted),
        BOTH(the_screen_is_told_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
