/*
 * Ending the machine's run. reboot= picks the first method of resetting; the others follow, because none
 * works everywhere. A crash of ours halts: a reset would wipe the report off the screen.
 */
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/sched.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/lib.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>

#define PM1_SLP_EN (1u << 13)

static bool noreboot;
CMDLINE_BOOL("noreboot", noreboot);

static void reset_by_acpi(void)
{
    if (acpi_info.has_reset)
        (void)acpi_write_reg(&acpi_info.reset_reg, acpi_info.reset_value);
}

static void (*firmware_reset)(void);

void power_reset_by_firmware(void (*reset)(void)) { firmware_reset = reset; }

static void reset_by_firmware(void)
{
    if (firmware_reset)
        firmware_reset();
}

static void reset_by_keyboard(void)
{
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned spins = 0; spins < 10000 && (inb(0x64) & 2); spins++)
            cpu_relax();
        outb(0x64, 0xfe);
        delay_us(50);
    }
}

static void reset_by_chipset(void)
{
    outb(0xcf9, 0x02);
    delay_us(50);
    outb(0xcf9, 0x06);
}

static void reset_by_fault(void)
{
    static const struct { u16 limit; u64 base; } __attribute__((packed)) no_idt;

    __asm__ volatile("lidt %0; int3" :: "m"(no_idt));
}

static const struct {
    char letter;
    void (*reset)(void);
} methods[] = {
    { 'a', reset_by_acpi }, { 'e', reset_by_firmware }, { 'k', reset_by_keyboard }, { 'p', reset_by_chipset }, { 't', reset_by_fault },
};
static char first_method = 'a';

/* reboot=acpi|efi|kbd|pci|triple|no; words may be combined by commas; "warm", "cold" and "xen" mean nothing here. */
struct reboot_words { char method; bool noreboot; };

static int parse_reboot_word(void *to, const char *word, size_t len)
{
    struct reboot_words *w = to;

    for (unsigned i = 0; i < ARRAY_SIZE(methods); i++)
        if (len && *word == methods[i].letter) {
            w->method = *word;
            return 0;
        }
    if (len && *word == 'n')
        w->noreboot = true;
    return len && strchr("nwcx", *word) ? 0 : -EINVAL;
}

static int parse_reboot(const char *v)
{
    struct reboot_words w = { first_method, noreboot };
    int rc = cmdline_list(v, parse_reboot_word, &w);

    if (!rc) {
        first_method = w.method;
        noreboot = w.noreboot;
    }
    return rc;
}
CMDLINE_OPTION("reboot", parse_reboot);

void machine_restart(unsigned delay_ms)
{
    irq_disable();
    nmi_stop_others(false);
    console_start_sync();
    printk("Resetting the machine\n");
    while (delay_ms--)
        delay_us(1000);
    for (unsigned i = 0; i < ARRAY_SIZE(methods); i++)
        if (methods[i].letter == first_method)
            methods[i].reset();
    delay_us(100000);
    for (unsigned i = 0; i < ARRAY_SIZE(methods); i++) {
        methods[i].reset();
        delay_us(100000);
    }
    machine_halt();
}

void machine_halt(void)
{
    irq_disable();
    nmi_stop_others(false);
    console_start_sync();
    printk("The machine is halted: switch it off or reset it\n");
    halt_forever();
    __builtin_unreachable();
}

void machine_crashed(void)
{
    machine_halt();
}

int machine_poweroff(u16 pm1a_cnt, u16 pm1b_cnt)
{
    const struct acpi_info *i = &acpi_info;

    if (!i->has_fadt || !i->pm1a_cnt_port)
        return -ENODEV;
    printk("Entering ACPI S5\n");
    console_flush();
    irq_disable();
    outw(i->pm1a_cnt_port, pm1a_cnt & ~PM1_SLP_EN);
    if (i->pm1b_cnt_port)
        outw(i->pm1b_cnt_port, pm1b_cnt & ~PM1_SLP_EN);
    __asm__ volatile("wbinvd" ::: "memory");
    outw(i->pm1a_cnt_port, pm1a_cnt | PM1_SLP_EN);
    if (i->pm1b_cnt_port)
        outw(i->pm1b_cnt_port, pm1b_cnt | PM1_SLP_EN);
    for (unsigned ms = 0; ms < 2000; ms++)
        delay_us(1000);
    irq_enable();
    printk(LOG_ERR "The machine did not switch off\n");
    return -EIO;
}

void hardware_shutdown(u8 reason)
{
    switch (reason) {
    case SHUTDOWN_poweroff:
        printk("Domain 0 halted: halting the machine\n");
        machine_halt();
    case SHUTDOWN_reboot:
        printk("Domain 0 shut down: rebooting the machine\n");
        machine_restart(0);
    default:
        printk(LOG_ERR "Domain 0 crashed (reason %u)%s\n", reason,
               noreboot ? ": 'noreboot' is set, not rebooting" : ": rebooting the machine in 5 seconds");
        if (noreboot)
            machine_halt();
        machine_restart(5000);
    }
}
