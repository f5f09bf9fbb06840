/*
 * Every word of the command line that the hypervisor knows: what is malformed changes nothing, and dom0's size. The sources are linked
 * for their parsers alone, which call nothing of the machine: what they name besides is left open.
 */
// SOURCES: arch/x86/cpu/features.c arch/x86/cpu/hwdom.c arch/x86/cpu/idle.c arch/x86/cpu/power.c arch/x86/cpu/smp.c
// SOURCES: arch/x86/cpu/spec_options.c arch/x86/cpu/watchdog.c arch/x86/irq/lapic.c arch/x86/pv/dom0_size.c arch/x86/time/time.c
// SOURCES: arch/x86/boot/ucode.c
// SOURCES: arch/x86/mm/e820.c common/control/trace.c common/domain/create.c common/sched/pool.c common/cmdline_words.c
// SOURCES: common/console/console.c common/console/printk.c common/console/ring.c common/lib/text.c common/lib/xen_version.c
// SOURCES: drivers/char/serial.c drivers/char/vga.c drivers/pci/devices.c common/invariant.c drivers/iommu/iommu.c
// LIBS: -no-pie -Wl,--unresolved-symbols=ignore-all -Wl,-T,cmdline.lds
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "common/cmdline.c"
#include <asm/boot.h>
#include <pvisor/domain.h>

/* <stdlib.h> has a strtoull() of another shape. */
void *malloc(size_t size);
void free(void *p);
int system(const char *command);

#define MIB (1UL << 8)      /* in frames */
#define GIB (1UL << 18)

/* A value that is accepted. A word that is new needs one here. */
static const struct { const char *word, *value; } good[] = {
    { "dom0_mem", "min:64M,max:2G,1G+10%" }, { "dom0_max_vcpus", "1-4" }, { "maxcpus", "2" }, { "idle", "hlt" }, { "watchdog", "no" },
    { "com1", "115200,8n1" }, { "com2", "9600,8e2,0x2f8,3" }, { "console", "com1,vga" }, { "vga", "keep" }, { "sync_console", "" },
    { "invariant", "100" }, { "iommu", "dom0-passthrough,no-intremap" },
    { "conring_size", "128k" }, { "conswitch", "bx" }, { "loglvl", "error/all" }, { "guest_loglvl", "none/info" }, { "noreboot", "yes" },
    { "reboot", "kbd" }, { "physdev_dom0_hide", "(00:04.2)(0001:00:1f.3)" }, { "pci-unsafe", "(00:03.0)" },
    { "dom0_ioports_disable", "60-64,3f8" }, { "smep", "no" }, { "smap", "hvm" }, { "xsave", "off" }, { "x2apic", "true" },
    { "xpti", "dom0=no,domu=yes" },
    { "pv-l1tf", "domu=1" },
    { "spec-ctrl", "no-rsb,ibpb" }, { "tsc", "unstable" }, { "xen-version", "4.20" },
    { "nosmp", "no" }, { "watchdog_timeout", "30" }, { "sched_ratelimit_us", "1000" }, { "gnttab_max_frames", "128" },
    { "gnttab_max_maptrack_frames", "2048" }, { "dom0_vcpus_pin", "yes" }, { "mem", "4G" }, { "availmem", "1G" },
    { "badpage", "0x12345,0x20000-0x200ff" }, { "allow_unsafe", "yes" }, { "tbuf_size", "32" }, { "tevt_mask", "0x2f000" },
    { "ucode", "scan=yes,nmi=no" },
};
/* More that begins well. */
static const char *const bad[] = {
    "?", "1-", "5-4-3", "4-2", "50%%", "100%", "max:1G,50", "max:1G,?", "1G+", "10%+1G", "-", "min:", "0", "18446744073709551616?",
    "dom0=no,domu=?", "no,?", "yes,", "mwait,", "acpi,?", "noreboot?,?", "keep,?", "text-80x25,?", "com1,com3", "(00:04.2)(00:1f.8)",
    "(00:04.2", "60-64,70-6f", "60,10000", "115200,8x1", "115200,8n1,0", "info/error", "all/", "a?", "32M",
};

extern char __data_start[], _end[];

static size_t size_of_data(void) { return (size_t)(_end - __data_start); }

/* Byte by byte: the sanitizer's red zones lie between the variables. */
__attribute__((no_sanitize("address"))) static char *data_now(void)
{
    char *copy = malloc(size_of_data());

    for (size_t i = 0; i < size_of_data(); i++)
        copy[i] = ((volatile char *)__data_start)[i];
    return copy;
}

__attribute__((no_sanitize("address"))) static bool data_is(const char *copy)
{
    for (size_t i = 0; i < size_of_data(); i++)
        if (copy[i] != ((volatile char *)__data_start)[i])
            return false;
    return true;
}

static int parse(const struct cmdline_option *o, const char *value)
{
    int rc = o->parse(value);

    refused = NULL;
    refused_len = 0;
    return rc;
}

static void expect_unchanged(const struct cmdline_option *o, const char *value, bool must_refuse)
{
    char *before = data_now();
    int rc = parse(o, value);

    if (must_refuse && !rc)
        fail_msg("%s=%s is accepted", o->name, value);
    if (rc && !data_is(before))
        fail_msg("%s=%s is refused and changes something", o->name, value);
    free(before);
}

/* Of the documentation of Xen 4.17 and 4.20, and what 4.21 and 4.22 added. */
static const char *const xens[] = {
    "acpi", "acpi_apic_instance", "acpi_pstate_strict", "acpi_skip_timer_override", "acpi_sleep", "allow_unsafe", "altp2m",
    "apic", "apic_verbosity", "apicv", "arat", "argo", "asid", "async-show-all", "ats", "availmem", "badpage", "bootscrub",
    "bootscrub_chunk", "buddy-alloc-size", "cet", "clocksource", "cmci-threshold", "cmos-rtc-probe", "com1", "com2",
    "conring_size", "console", "console_timestamps", "console_to_ring", "conswitch", "core_parking", "cpu_type", "cpufreq",
    "cpuid", "cpuid_mask_cpu", "cpuid_mask_ecx", "cpuid_mask_edx", "cpuid_mask_ext_ecx", "cpuid_mask_ext_edx",
    "cpuid_mask_l7s0_eax", "cpuid_mask_l7s0_ebx", "cpuid_mask_thermal_ecx", "cpuid_mask_xsave_eax", "cpuidle", "cpuinfo",
    "crash-debug-debugkey", "crash-debug-hwdom", "crash-debug-kexeccmd", "crash-debug-panic", "crash-debug-watchdog",
    "crashinfo_maxaddr", "crashkernel", "credit2_balance_over", "credit2_balance_under", "credit2_cap_period_ms",
    "credit2_load_precision_shift", "credit2_load_window_shift", "credit2_runqueue", "dbgp", "debug_stack_lines", "debugtrace",
    "dit", "dma_bits", "dom0", "dom0-cpuid", "dom0-iommu", "dom0-llc-colors", "dom0_ioports_disable", "dom0_max_vcpus",
    "dom0_mem", "dom0_nodes", "dom0_vcpus_pin", "dtuart", "e820-mtrr-clip", "e820-verbose", "edd", "edid", "efi", "ept",
    "ext_regions", "extra_guest_irqs", "flask", "font", "force-ept", "gdb", "global-pages", "gnttab", "gnttab_max_frames",
    "gnttab_max_maptrack_frames", "guest_loglvl", "hap", "hap_1gb", "hap_2mb", "hardware_dom", "hest_disable", "highmem-start",
    "hmp-unsafe", "hpet", "hpetbroadcast", "hvm_debug", "hvm_fep", "hvm_port80", "idle_latency_factor", "invpcid", "ioapic_ack",
    "iommu", "iommu_dev_iotlb_timeout", "iommu_inclusive_mapping", "irq-max-guests", "irq_ratelimit", "irq_vector_map", "ivmd",
    "ivrs_hpet", "ivrs_ioapic", "lapic", "lapic_timer_c2_ok", "ler", "llc-coloring", "llc-nr-ways", "llc-size",
    "load-balance-ratelimit", "lock-depth-size", "loglvl", "low_crashinfo", "low_mem_virq_limit", "max-order-dirty",
    "max_cstate", "max_gsi_irqs", "max_lpi_bits", "maxcpus", "mce", "mce_fb", "mce_verbosity", "mem", "memop-max-order", "mmcfg",
    "mmio-relax", "msi", "mtrr.show", "mwait-idle", "nmi", "no-real-mode", "noapic", "noirqbalance", "nolapic", "noreboot",
    "nosmp", "nr_irqs", "numa", "partial-emulation", "pci", "pci-passthrough", "pci-phantom", "pcid", "pdx-compress", "pku",
    "placeholder", "ple_gap", "ple_window", "preferred-cstates", "probe-port-aliases", "psr", "pv", "pv-l1tf", "pv-linear-pt",
    "pv-shim", "rcu-idle-timer-period-ms", "reboot", "rmrr", "ro-hpet", "sched", "sched-gran", "sched_credit2_max_cpus_runqueue",
    "sched_credit2_migrate_resist", "sched_credit_tslice_ms", "sched_ratelimit_us", "sched_smt_power_savings", "scrub-domheap",
    "serial_tx_buffer", "serrors", "shim_mem", "smap", "smep", "smt", "snb_igd_quirk", "spec-ctrl", "sync_console", "tboot",
    "tbuf_size", "tdt", "tevt_mask", "tickle_one_idle_cpu", "timer_slop", "tsc", "tsx", "ucode", "unrestricted_guest",
    "vcpu_migration_delay", "vesa-ram", "vga", "viridian-spinlock-retry-count", "viridian-version", "vm-notify-window", "vpid",
    "vpmu", "vwfi", "wallclock", "watchdog", "watchdog_timeout", "x2apic", "x2apic-mode", "x2apic_phys", "xen-llc-colors",
    "xenheap_megabytes", "xpti", "xsave", "xsm",
};

/* Each of them works, or the log says why not; none of those that work stands among the others. */
static void every_word_of_xens_is_known(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(xens); i++)
        if (!find_option(xens[i]) == !cmdline_why_idle(xens[i]))
            fail_msg("%s is %s", xens[i], find_option(xens[i]) ? "idle and works" : "not known");
}

static const char *good_value(const char *word)
{
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        if (!strcmp(word, good[i].word))
            return good[i].value;
    fail_msg("no good value for %s here", word);
    return "";
}

static void what_is_malformed_changes_nothing(void **state)
{
    (void)state;
    for (const struct cmdline_option *o = __cmdline_start; o < __cmdline_end; o++) {
        char spoilt[128];

        for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
            expect_unchanged(o, bad[i], !i);
        snprintf(spoilt, sizeof(spoilt), "%s,?", good_value(o->name));
        expect_unchanged(o, spoilt, true);
        assert_int_equal(parse(o, good_value(o->name)), 0);
        expect_unchanged(o, spoilt, true);
    }
}

/* A source that declares words and is not linked here would not be looked at. */
static void all_words_are_here(void **state)
{
    (void)state;
    assert_int_equal(__cmdline_end - __cmdline_start, ARRAY_SIZE(good));
    assert_int_equal(system("for f in $(grep -rlE '^ *CMDLINE_(OPTION|BOOL|UINT)' ../../arch ../../common ../../drivers); do "
                            "grep -q \"SOURCES:.*${f#../../}\" test_words.c || { echo \"$f is not in SOURCES\"; exit 1; }; done"), 0);
}

static void set(const char *word, const char *value)
{
    assert_int_equal(parse(find_option(word), value), 0);
}

static void dom0_gets_what_dom0_mem_says(void **state)
{
    static const struct { const char *value; u64 available, pages, most; } cases[] = {
        { "65536", 4 * GIB, 64 * MIB, DOM0_UNLIMITED }, { "512M,max:1G", 4 * GIB, 512 * MIB, GIB },
        { "max:1G", 4 * GIB, GIB, GIB }, { "min:2G,1G", 4 * GIB, 2 * GIB, DOM0_UNLIMITED },
        { "min:2G,1G,max:1536M", 4 * GIB, 1536 * MIB, 1536 * MIB }, { "50%", 4 * GIB, 2 * GIB, DOM0_UNLIMITED },
        { "1G+25%", 256 * GIB, 65 * GIB, DOM0_UNLIMITED }, { "-1G", 4 * GIB, 3 * GIB, DOM0_UNLIMITED },
        { "-25%,max:-1G", 4 * GIB, 3 * GIB, 3 * GIB }, { "8G", 4 * GIB, 4 * GIB - 128 * MIB, DOM0_UNLIMITED },
        { "min:90%,1M", GIB / 2, GIB / 2 * 9 / 10, DOM0_UNLIMITED },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        set("dom0_mem", cases[i].value);
        assert_int_equal(dom0_pages(cases[i].available), cases[i].pages);
        assert_int_equal(dom0_most_pages(cases[i].available), cases[i].most);
    }
}

static void dom0_gets_vcpus_within_its_range(void **state)
{
    static const struct { const char *value; u32 cpus, vcpus; } cases[] = {
        { "3", 8, 3 }, { "3", 1, 3 }, { "2-4", 1, 2 }, { "2-4", 3, 3 }, { "2-4", 8, 4 }, { "-4", 8, 4 }, { "-4", 2, 2 }, { "4-", 2, 4 },
        { "4-", 200, MAX_VCPUS },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        set("dom0_max_vcpus", cases[i].value);
        assert_int_equal(dom0_vcpus(cases[i].cpus), cases[i].vcpus);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_words_are_here),
        cmocka_unit_test(every_word_of_xens_is_known),
        cmocka_unit_test(what_is_malformed_changes_nothing),
        cmocka_unit_test(dom0_gets_what_dom0_mem_says),
        cmocka_unit_test(dom0_gets_vcpus_within_its_range),
    };

    return cmocka_run_group_tests_name("words of the command line", tests, NULL, NULL);
}
