/*
 * What the ACPI tables say (ACPI specification 6.4, chapters 5 and 4.8). acpi_init() fills acpi_info; a machine
 * without ACPI leaves everything zero and present false.
 */
#ifndef PVISOR_ACPI_H
#define PVISOR_ACPI_H

#include <pvisor/lib.h>
#include <pvisor/types.h>

#define ACPI_MAX_CPUS 256
#define ACPI_MAX_IOAPICS 16
#define ACPI_MAX_OVERRIDES 24
#define ACPI_MAX_MCFG 8
#define ACPI_MAX_NMI 16

/* Generic Address Structure, as in the tables. */
enum acpi_space { ACPI_SPACE_MEMORY = 0, ACPI_SPACE_IO = 1, ACPI_SPACE_PCI = 2 };
struct acpi_gas {
    u8 space, bit_width, bit_offset, access_size;
    u64 address;
} __attribute__((packed));

struct acpi_cpu { u32 apic_id, acpi_uid; };   /* that can be used */
struct acpi_ioapic { u8 id; maddr_t address; u32 gsi_base; };
/* Where an ISA interrupt really is. flags: MPS INTI flags; polarity bits 1:0 (3: low), trigger bits 3:2 (3: level). */
struct acpi_override { u8 isa_irq; u32 gsi; u16 flags; };
struct acpi_lapic_nmi { u32 acpi_uid; u8 lint; u16 flags; };   /* acpi_uid ~0: all CPUs */
struct acpi_mcfg { maddr_t address; u16 segment; u8 first_bus, last_bus; };

struct acpi_info {
    bool present;
    u8 revision;
    maddr_t rsdp;
    maddr_t lapic_address;
    u32 nr_cpus, nr_ioapics, nr_overrides, nr_mcfg, nr_nmis;
    struct acpi_cpu cpu[ACPI_MAX_CPUS];
    struct acpi_ioapic ioapic[ACPI_MAX_IOAPICS];
    struct acpi_override override[ACPI_MAX_OVERRIDES];
    struct acpi_lapic_nmi nmi[ACPI_MAX_NMI];
    struct acpi_mcfg mcfg[ACPI_MAX_MCFG];

    /* FADT. Ports are 0 where the table names none. */
    bool has_fadt;
    u16 pm_timer_port;             /* 3.579545 MHz counter */
    bool pm_timer_32bit;           /* else 24 bits */
    u16 pm1a_cnt_port, pm1b_cnt_port, pm1a_evt_port, pm1b_evt_port, smi_cmd_port;
    u8 pm1_cnt_len, pm1_evt_len, acpi_enable;
    u16 sci_irq;
    bool hw_reduced;
    struct acpi_gas reset_reg, sleep_control, sleep_status;
    u8 reset_value;
    bool has_reset;
    maddr_t facs, dsdt;
    u16 boot_flags;                /* IAPC_BOOT_ARCH */

    /* HPET table. 0: none. */
    maddr_t hpet_address;
    u8 hpet_number;
};

extern struct acpi_info acpi_info;

/* Finds and reads the tables. rsdp: where the boot loader says that it is, or 0: search the BIOS area. */
void acpi_init(maddr_t rsdp);
/*
 * The table with this 4-letter signature, the nth (from 0) of several, mapped, checksum verified; NULL if there is none.
 * Stays mapped for ever.
 */
const void *acpi_find_table(const char *signature, unsigned nth);
/* Hypervisor address of len bytes at a; by the direct map where RAM covers it, else a new mapping. NULL: failed. */
void *acpi_map(maddr_t a, size_t len);

/* n bytes (at most 8) at offset of a table, or of an entry of one, as a number. The caller knows that they are there. */
static inline u64 acpi_field(const u8 *entry, unsigned offset, unsigned n)
{
    u64 v = 0;

    memcpy(&v, entry + offset, n);
    return v;
}

u32 acpi_isa_irq_to_gsi(u8 irq);
/* Trigger and polarity of a GSI, from the overrides: ISA default edge/high, PCI level/low. */
void acpi_gsi_trigger(u32 gsi, bool *level, bool *low);
/* Writes value to a register in I/O or memory space; -EOPNOTSUPP for other spaces. */
int acpi_write_reg(const struct acpi_gas *reg, u32 value);

#endif
