/* From the boot loader to dom0: every subsystem's start, in the order of their needs. */
#include <asm/boot.h>
#include <asm/desc.h>
#include <asm/dma.h>
#include <asm/features.h>
#include <asm/idle.h>
#include <asm/mcheck.h>
#include <asm/mm.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/smp.h>
#include <asm/spec.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/cpumask.h>
#include <pvisor/cpupool.h>
#include <pvisor/domain.h>
#include <pvisor/efi.h>
#include <pvisor/evtchn.h>
#include <pvisor/invariant.h>
#include <pvisor/devices.h>
#include <pvisor/hwdom.h>
#include <pvisor/iommu.h>
#include <pvisor/irq.h>
#include <pvisor/pci.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>
#include <pvisor/sched.h>
#include <pvisor/serial.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include <pvisor/trace.h>
#include <pvisor/vga.h>
#include <pvisor/version.h>

/* Until CPU 0 has its final stack. Aligned like one, so that cpu_info() works. */
struct boot_stack { char bytes[STACK_SIZE]; };
struct boot_stack boot_stack __attribute__((aligned(STACK_SIZE), section(".bss.init")));

void stack_reset_jump(void *stack, void (*fn)(void)) noreturn_fn;

static __init void banner(void)
{
    /* pvisor-inspect knows the image by this text. */
    printk(LOG_ERR "pvisor " PVISOR_VERSION " (" BUILD_KIND " build), speaking the Xen %u.%u ABI\n", version_major(),
           version_minor());
    printk(LOG_INFO "Bootloader: %s\n", boot_info.loader[0] ? boot_info.loader : "unknown");
    printk(LOG_INFO "Command line: %s\n", boot_info.cmdline);
}

static noreturn_fn void start_on_final_stack(void);

__init noreturn_fn void start_pvisor(u32 magic, u32 info);
__init noreturn_fn void start_pvisor(u32 magic, u32 info)
{
    bool known = multiboot_parse(magic, info);

    cmdline_parse(boot_info.cmdline);
    serial_init();
    console_init();
    banner();
    if (!known)
        boot_failure("the boot loader is neither Multiboot nor Multiboot 2 (magic %#x)", magic);
    if (!host_e820_nr)
        boot_failure("the boot loader gave no memory map");
    cpu_detect();
    efi_reserve_memory();
    e820_withhold(erratum_hle_at_1g(&cpu_host));
    e820_log();
    memory_init();
    for (unsigned i = 0; i < boot_info.nr_modules; i++)
        boot_reserve(boot_info.module[i].start.v, boot_info.module[i].start.v + boot_info.module[i].size);
    hyp_map_init();
    frame_table_init();
    memory_to_heap();
    idt_init();
    desc_init_cpu(0);
    stack_reset_jump(cpu_info_of(0), start_on_final_stack);
}

static noreturn_fn void start_on_final_stack(void)
{
    printk(LOG_INFO "System RAM: %lu MiB, %lu MiB free\n", heap_total_frames() >> 8, heap_free_frames() >> 8);
    cpumask_set(&cpu_online_map, 0);
    ucode_boot();
    cpu_init_features();
    spec_init();
    console_init_late();
    vga_init(&boot_info.framebuffer);
    efi_init(boot_info.efi_system_table);
    efi_call_init();
    acpi_init(boot_info.rsdp[0] ? virt_to_maddr(boot_info.rsdp) : maddr(0));
    percpu_release(min(acpi_info.nr_cpus + 1u, (unsigned)NR_CPUS));
    softirq_register(SOFTIRQ_FREE_FRAMES, frames_drain_pending);
    sched_init();
    switch_init();
    domain_debug_keys_init();
    invariant_init();
    sched_init_cpu(0);
    cpupool_cpu_online(0);
    lapic_init_bsp();
    smp_call_init();
    nmi_init();
    irq_init(evtchn_set_pending);
    serial_init_irq();
    irq_enable();
    time_init();
    time_init_cpu();
    guest_time_init();
    cpu_policy_init();
    idle_init();
    smp_init();
    pci_init();
    iommu_read_firmware();
    iommu_init();
    trace_init();
    mcheck_init(send_dom0_virq);
    if (!boot_info.nr_modules)
        boot_failure("no dom0 kernel: the boot loader's first module must be the kernel for dom0");
    dom0_build(&boot_info.module[0], boot_info.nr_modules > 1 ? &boot_info.module[1] : NULL);
    console_endboot(console_input_to_dom0);
    vga_endboot();
    serial_start_buffered();
    watchdog_start();
    hyp_release_init();
    hardware_domain_reserved_memory();
    dma_start(hardware_domain_may_write);
    devices_say();
    domain_unpause_by_controller(dom0);
    vcpu_start_on_cpu(current);
}
