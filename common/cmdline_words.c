/*
 * Words of Xen 4.17 to 4.22 that people have in their boot menus, and that do nothing here, with the reason for the log. With them a word
 * that nobody knows is a typing error, and the nearest one that somebody knows can be named.
 */
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>

static const struct {
    const char *why, *names;        /* names: a space between any two; what follows [ in a word is none of its name */
} idle_words[] = {
    /* The menus of every Debian have these. */
    { "", "placeholder no-real-mode edd" },
    { "what the firmware's tables say of IOMMUs is taken as it is, and iommu= says whether they are used",
      "iommu_dev_iotlb_timeout iommu_inclusive_mapping dom0-iommu ats ivmd ivrs_hpet ivrs_ioapic rmrr snb_igd_quirk pci-phantom" },
    { "it is about HVM and PVH guests, which there are not",
      "altp2m apicv asid ept force-ept hap hap_1gb hap_2mb hvm_debug hvm_fep hvm_port80 ple_gap ple_window unrestricted_guest "
      "viridian-spinlock-retry-count viridian-version vm-notify-window vpid" },
    { "it is about machines that are not x86",
      "buddy-alloc-size dom0-llc-colors dtuart ext_regions hmp-unsafe llc-coloring llc-nr-ways llc-size max_lpi_bits partial-emulation "
      "pci-passthrough serrors vwfi xen-llc-colors xenheap_megabytes" },
    { "CPUs' frequencies and sleep states are left to the firmware, and idle= says how CPUs wait",
      "acpi_pstate_strict arat cpufreq cpuidle hpetbroadcast idle_latency_factor lapic_timer_c2_ok max_cstate mwait-idle "
      "preferred-cstates sched_smt_power_savings tdt" },
    { "what the firmware's tables say of the machine is taken as it is, and its APICs are used",
      "acpi acpi_apic_instance acpi_skip_timer_override acpi_sleep apic apic_verbosity cpuinfo e820-mtrr-clip e820-verbose hest_disable "
      "lapic mmcfg mmio-relax mtrr.show noapic nolapic pci probe-port-aliases ro-hpet x2apic-mode x2apic_phys" },
    { "interrupts of devices have no such setting",
      "extra_guest_irqs ioapic_ack irq-max-guests irq_ratelimit irq_vector_map max_gsi_irqs msi nmi noirqbalance nr_irqs" },
    { "clocks are chosen by what the machine has", "clocksource cmos-rtc-probe hpet timer_slop wallclock" },
    { "there is one scheduler, of credit2's kind, and it has no such setting",
      "credit2_balance_over credit2_balance_under credit2_cap_period_ms credit2_load_precision_shift credit2_load_window_shift "
      "credit2_runqueue load-balance-ratelimit rcu-idle-timer-period-ms sched sched-gran sched_credit2_max_cpus_runqueue "
      "sched_credit2_migrate_resist sched_credit_tslice_ms tickle_one_idle_cpu vcpu_migration_delay" },
    { "threads of a core, and nodes, are not told apart", "core_parking dom0_nodes numa smt" },
    { "frames are cleared when a domU gets them, and not before", "bootscrub bootscrub_chunk max-order-dirty scrub-domheap" },
    { "memory has no such limit", "dma_bits highmem-start low_mem_virq_limit memop-max-order pdx-compress" },
    { "there is no kexec", "crashinfo_maxaddr crashkernel low_crashinfo" },
    { "a panic says all that there is to say",
      "async-show-all crash-debug-debugkey crash-debug-hwdom crash-debug-kexeccmd crash-debug-panic crash-debug-watchdog "
      "debug_stack_lines debugtrace ler lock-depth-size" },
    { "the banks of machine checks are looked at every 30 seconds", "cmci-threshold mce mce_fb mce_verbosity" },
    { "guests' CPUs have what PV guests can use of the machine's; a domU has a cpuid= of its own, to xl",
      "cpu_type cpuid cpuid_mask_cpu cpuid_mask_ecx cpuid_mask_edx cpuid_mask_ext_ecx cpuid_mask_ext_edx cpuid_mask_l7s0_eax "
      "cpuid_mask_l7s0_ebx cpuid_mask_thermal_ecx cpuid_mask_xsave_eax dom0-cpuid pku" },
    { "the hypervisor does not use that feature of CPUs", "cet dit global-pages invpcid pcid psr tboot tsx" },
    { "guests have no performance counters", "vpmu" },
    { "there is no security module", "flask xsm" },
    { "there is no argo", "argo" },
    { "dom0 is a PV guest, and owns the devices", "dom0 hardware_dom" },
    { "PV guests of each kind can be built, with linear page tables", "pv pv-linear-pt" },
    { "pvisor is no shim", "pv-shim shim_mem" },
    { "a domU's limits are max_grant_version=, max_grant_frames= and max_maptrack_frames= to xl", "gnttab" },
    { "the log's lines have no times", "console_timestamps" },
    { "guests' text is in the log's ring, but for dom0's", "console_to_ring" },
    { "the ring of a serial line is of one size", "serial_tx_buffer" },
    { "only serial lines and the screen are used", "dbgp gdb" },
    { "the screen is used as the boot loader left it", "edid efi font vesa-ram" },
};

/* The next of *names, *len characters long, which it leaves behind; NULL at the end. */
static const char *next_name(const char **names, size_t *len)
{
    const char *name = *names;

    while (*name == ' ')
        name++;
    for (*len = 0; name[*len] && name[*len] != ' ';)
        ++*len;
    *names = name + *len;
    return *len ? name : NULL;
}

const char *cmdline_why_idle(const char *word)
{
    const char *bracket = strchr(word, '['), *name;
    size_t word_len = bracket ? (size_t)(bracket - word) : strlen(word), len;

    for (unsigned i = 0; i < ARRAY_SIZE(idle_words); i++)
        for (const char *names = idle_words[i].names; (name = next_name(&names, &len));)
            if (len == word_len && !strncmp(name, word, len))
                return idle_words[i].why;
    return NULL;
}

/* --- Typing errors --- */

#define NAME_MAX 32     /* of what is worth comparing */

/*
 * How many characters must be put in, left out, changed or exchanged with the next to make b of a (optimal string alignment); of texts of
 * NAME_MAX or more: many. Row i has what a's first i characters are away from each beginning of b.
 */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    u8 rows[3][NAME_MAX];

    if (a_len >= NAME_MAX || b_len >= NAME_MAX)
        return NAME_MAX;
    for (unsigned i = 0; i <= a_len; i++) {
        u8 *row = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        row[0] = (u8)i;
        for (unsigned j = 1; j <= b_len; j++) {
            if (!i) {
                row[j] = (u8)j;
                continue;
            }
            row[j] = (u8)min(min(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = (u8)min(row[j], before[j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

struct nearest { const char *word, *name; size_t len; unsigned distance; };

static void compare(struct nearest *n, const char *name, size_t len)
{
    unsigned d = distance(n->word, strlen(n->word), name, len);

    /* A third of a name may be wrong. */
    if (d >= n->distance || d * 3 > len)
        return;
    n->name = name;
    n->len = len;
    n->distance = d;
}

const char *cmdline_nearest(const char *word, size_t *len)
{
    struct nearest n = { .word = word, .distance = NAME_MAX };
    const char *name;

    for (const struct cmdline_option *o = __cmdline_start; o < __cmdline_end; o++)
        compare(&n, o->name, strlen(o->name));
    for (unsigned i = 0; i < ARRAY_SIZE(idle_words); i++)
        for (const char *names = idle_words[i].names; (name = next_name(&names, len));)
            compare(&n, name, *len);
    *len = n.len;
    return n.name;
}
