/* The firmware's system table (UEFI specification 2.10, 4.3). It lies in memory that stays the firmware's, and so is what it leads to. */
#include <asm/mm.h>
#include <pvisor/efi.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define SYSTEM_TABLE_SIGNATURE 0x5453595320494249UL     /* "IBI SYST" */

struct system_table {
    u64 signature;
    u32 revision, header_size, crc, reserved;
    u64 vendor;
    u32 vendor_revision, pad;
    u64 consoles[6], runtime_services, boot_services, nr_config_tables, config_tables;
};

struct efi_info efi_info;

/* n bytes from a machine address on, of which the firmware's runtime memory is said to have all. */
static __init bool copy(void *to, u64 from, size_t n)
{
    const struct efi_region *r = efi_region_at(from);
    const void *p;

    if (!efi_is_runtime(r) || n > r->end - from)
        return false;
    p = ioremap(maddr(from), n);
    if (!p)
        return false;
    memcpy(to, p, n);
    iounmap((void *)p, n);
    return true;
}

/* A name that does not end where names end is cut off there. */
static __init void read_vendor(u64 at)
{
    const struct efi_region *r = efi_region_at(at);
    size_t n = r ? min((size_t)(r->end - at), sizeof(efi_info.vendor) - sizeof(u16)) : 0;

    if (n)
        (void)copy(efi_info.vendor, at, n & ~1UL);
}

static __init void log(void)
{
    char name[EFI_VENDOR_MAX];
    unsigned n = 0;

    for (; efi_info.vendor[n]; n++)
        name[n] = efi_info.vendor[n] < 0x7f && efi_info.vendor[n] >= ' ' ? (char)efi_info.vendor[n] : '?';
    name[n] = '\0';
    printk(LOG_INFO "UEFI %u.%u by %s, %u tables, runtime services at %#lx\n", efi_info.revision >> 16, (efi_info.revision & 0xffff) / 10,
           name, efi_info.nr_config_tables, efi_info.runtime_services);
}

__init void efi_init(u64 system_table)
{
    struct system_table t;
    u32 nr;

    if (!system_table)
        return;
    if (!copy(&t, system_table, sizeof(t)) || t.signature != SYSTEM_TABLE_SIGNATURE) {
        printk(LOG_WARNING "UEFI: no system table in the firmware's own memory at %#lx: it is not used\n", system_table);
        return;
    }
    nr = (u32)min(t.nr_config_tables, 4096UL);
    efi_info = (struct efi_info){
        .present = true, .revision = t.revision, .vendor_revision = t.vendor_revision, .config_tables = t.config_tables,
        .nr_config_tables = nr, .runtime_services = t.runtime_services };
    read_vendor(t.vendor);
    log();
}
