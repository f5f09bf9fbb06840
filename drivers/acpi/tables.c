/*
 * Finding and reading ACPI tables. All of it is data from the firmware: every length is checked before
 * use, and what makes no sense is named in the log and left out. Layouts: ACPI specification 6.4, chapter 5.
 */
#include <pvisor/acpi.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define BIOS_AREA 0xe0000UL
#define BIOS_AREA_SIZE 0x20000UL
#define EBDA_POINTER 0x40eUL
#define RSDP_V1_SIZE 20
#define RSDP_V2_SIZE 36
#define MAX_TABLES 96
#define MAX_TABLE_SIZE (8u << 20)

struct table_header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem_id[6], oem_table_id[8];
    u32 oem_revision, creator_id, creator_revision;
} __attribute__((packed));

struct rsdp {
    char signature[8];
    u8 checksum;
    char oem_id[6];
    u8 revision;
    u32 rsdt;
    u32 length;          /* from here on: revision 2 */
    u64 xsdt;
    u8 extended_checksum, reserved[3];
} __attribute__((packed));

struct acpi_info acpi_info;

static const struct table_header *tables[MAX_TABLES];
static unsigned nr_tables;

static bool checksum_ok(const void *p, size_t n)
{
    const u8 *b = p;
    u8 sum = 0;

    while (n--)
        sum += *b++;
    return sum == 0;
}

/* --- The root ------------------------------------------------------------------------------------------- */

static bool rsdp_valid(const struct rsdp *r)
{
    return !memcmp(r->signature, "RSD PTR ", 8) && checksum_ok(r, RSDP_V1_SIZE);
}

static maddr_t scan_for_rsdp(u64 start, size_t size)
{
    const u8 *p = acpi_map(maddr(start), size);

    for (size_t at = 0; p && at + RSDP_V2_SIZE <= size; at += 16)
        if (rsdp_valid((const struct rsdp *)(p + at)))
            return maddr(start + at);
    return maddr(0);
}

static maddr_t find_rsdp(void)
{
    const u8 *low = acpi_map(maddr(EBDA_POINTER), 2);
    u64 ebda = low ? (u64)(low[0] | low[1] << 8) << 4 : 0;
    maddr_t found = maddr(0);

    if (ebda >= 0x80000 && ebda < 0xa0000)
        found = scan_for_rsdp(ebda, 1024);
    return found.v ? found : scan_for_rsdp(BIOS_AREA, BIOS_AREA_SIZE);
}

/* The table at a, whole and with a good checksum, or NULL. */
static const struct table_header *map_table(maddr_t a)
{
    const struct table_header *t = acpi_map(a, sizeof(*t));
    u32 length;

    if (!a.v || !t)
        return NULL;
    length = t->length;
    if (length < sizeof(*t) || length > MAX_TABLE_SIZE) {
        printk(LOG_WARNING "ACPI: table at %#lx has length %u, ignored\n", a.v, length);
        return NULL;
    }
    t = acpi_map(a, length);
    if (!t)
        return NULL;
    if (!checksum_ok(t, length)) {
        printk(LOG_WARNING "ACPI: %.4s at %#lx has a bad checksum, ignored\n", t->signature, a.v);
        return NULL;
    }
    return t;
}

/* Follows the RSDT (4-byte entries) or XSDT (8-byte entries). */
static void read_root(const struct table_header *root, unsigned entry_size)
{
    unsigned n = (root->length - sizeof(*root)) / entry_size;
    const u8 *entry = (const u8 *)(root + 1);

    for (; n--; entry += entry_size) {
        const struct table_header *t;
        u64 a = 0;

        memcpy(&a, entry, entry_size);
        t = map_table(maddr(a));
        if (t && !table_full("ACPI tables", nr_tables, MAX_TABLES))
            tables[nr_tables++] = t;
    }
}

static bool read_rsdp(maddr_t at)
{
    const struct rsdp *r = acpi_map(at, RSDP_V2_SIZE);
    const struct table_header *root = NULL;

    if (!r || !rsdp_valid(r)) {
        printk(LOG_WARNING "ACPI: no valid RSDP at %#lx\n", at.v);
        return false;
    }
    acpi_info.rsdp = at;
    acpi_info.revision = r->revision;
    if (r->revision >= 2 && r->xsdt && checksum_ok(r, RSDP_V2_SIZE))
        root = map_table(maddr(r->xsdt));
    if (root && !memcmp(root->signature, "XSDT", 4)) {
        read_root(root, 8);
        return true;
    }
    root = map_table(maddr(r->rsdt));
    if (!root || memcmp(root->signature, "RSDT", 4)) {
        printk(LOG_WARNING "ACPI: neither XSDT nor RSDT can be read\n");
        return false;
    }
    read_root(root, 4);
    return true;
}

const void *acpi_find_table(const char *signature, unsigned nth)
{
    for (unsigned i = 0; i < nr_tables; i++)
        if (!memcmp(tables[i]->signature, signature, 4) && nth-- == 0)
            return tables[i];
    return NULL;
}

/* --- Fields of tables ----------------------------------------------------------------------------------- */

/* n bytes at offset of table t as a number; 0 where the table is too short to have them. */
static u64 field(const struct table_header *t, unsigned offset, unsigned n)
{
    u64 v = 0;

    if (offset + n <= t->length)
        memcpy(&v, (const u8 *)t + offset, n);
    return v;
}

/* --- MADT ------------------------------------------------------------------------------------------------ */

static void add_cpu(u32 apic_id, u32 uid, u32 flags)
{
    /* Flag 0: usable. Those that may be plugged in later do not count. */
    if (!(flags & 1))
        return;
    if (table_full("CPUs", acpi_info.nr_cpus, ACPI_MAX_CPUS))
        return;
    acpi_info.cpu[acpi_info.nr_cpus++] = (struct acpi_cpu){ apic_id, uid };
}

static void madt_lapic(const u8 *e)
{
    if (e[3] != 0xff)
        add_cpu(e[3], e[2], acpi_field(e, 4, 4));
}

static void madt_x2apic(const u8 *e)
{
    add_cpu(acpi_field(e, 4, 4), acpi_field(e, 12, 4), acpi_field(e, 8, 4));
}

static void madt_ioapic(const u8 *e)
{
    if (table_full("IO-APICs", acpi_info.nr_ioapics, ACPI_MAX_IOAPICS))
        return;
    acpi_info.ioapic[acpi_info.nr_ioapics++] = (struct acpi_ioapic){
        .id = e[2], .address = maddr(acpi_field(e, 4, 4)), .gsi_base = acpi_field(e, 8, 4) };
}

static void madt_override(const u8 *e)
{
    if (e[2] != 0 || e[3] > 15 || table_full("interrupt overrides", acpi_info.nr_overrides, ACPI_MAX_OVERRIDES))
        return;
    acpi_info.override[acpi_info.nr_overrides++] = (struct acpi_override){
        .isa_irq = e[3], .gsi = acpi_field(e, 4, 4), .flags = acpi_field(e, 8, 2) };
}

static void add_nmi(u32 uid, u16 flags, u8 lint)
{
    if (lint <= 1 && !table_full("NMI lines of CPUs", acpi_info.nr_nmis, ACPI_MAX_NMI))
        acpi_info.nmi[acpi_info.nr_nmis++] = (struct acpi_lapic_nmi){ uid, lint, flags };
}

static void madt_lapic_nmi(const u8 *e)
{
    add_nmi(e[2] == 0xff ? ~0u : e[2], acpi_field(e, 3, 2), e[5]);
}

static void madt_x2apic_nmi(const u8 *e)
{
    add_nmi(acpi_field(e, 4, 4), acpi_field(e, 2, 2), e[8]);
}

static void madt_lapic_address(const u8 *e)
{
    acpi_info.lapic_address = maddr(acpi_field(e, 4, 8));
}

static const struct madt_entry {
    u8 type, length;
    void (*read)(const u8 *e);
} madt_entries[] = {
    { 0, 8, madt_lapic },     { 1, 12, madt_ioapic },        { 2, 10, madt_override },   { 4, 6, madt_lapic_nmi },
    { 5, 12, madt_lapic_address }, { 9, 16, madt_x2apic },   { 10, 12, madt_x2apic_nmi },
};

static void read_madt_entry(const u8 *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(madt_entries); i++)
        if (madt_entries[i].type == e[0] && e[1] >= madt_entries[i].length)
            madt_entries[i].read(e);
}

static void read_madt(void)
{
    const struct table_header *t = acpi_find_table("APIC", 0);
    const u8 *p = (const u8 *)t;
    u32 at = 44;

    if (!t || t->length < at)
        return;
    acpi_info.lapic_address = maddr(field(t, 36, 4));
    while (at + 2 <= t->length) {
        u8 length = p[at + 1];

        if (length < 2 || at + length > t->length) {
            printk(LOG_WARNING "ACPI: MADT entry at offset %u has length %u, the rest is ignored\n", at, length);
            return;
        }
        read_madt_entry(p + at);
        at += length;
    }
}

/* --- FADT, HPET, MCFG ------------------------------------------------------------------------------------- */

#define FADT_TMR_VAL_EXT (1u << 8)
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED (1u << 20)

static struct acpi_gas gas_field(const struct table_header *t, unsigned offset)
{
    struct acpi_gas g = { 0 };

    if (offset + sizeof(g) <= t->length)
        memcpy(&g, (const u8 *)t + offset, sizeof(g));
    return g;
}

/* A register block's port: the extended field where it names an I/O port, else the old one. */
static u16 port_field(const struct table_header *t, unsigned old, unsigned extended)
{
    struct acpi_gas g = gas_field(t, extended);
    u64 port = g.address && g.space == ACPI_SPACE_IO ? g.address : field(t, old, 4);

    return port <= 0xffff ? port : 0;
}

static void read_fadt(void)
{
    const struct table_header *t = acpi_find_table("FACP", 0);
    struct acpi_info *i = &acpi_info;
    u32 flags;

    if (!t || t->length < 116)
        return;
    i->has_fadt = true;
    flags = field(t, 112, 4);
    i->sci_irq = field(t, 46, 2);
    i->smi_cmd_port = field(t, 48, 4);
    i->acpi_enable = field(t, 52, 1);
    i->pm1a_evt_port = port_field(t, 56, 148);
    i->pm1b_evt_port = port_field(t, 60, 160);
    i->pm1a_cnt_port = port_field(t, 64, 172);
    i->pm1b_cnt_port = port_field(t, 68, 184);
    i->pm_timer_port = field(t, 91, 1) == 4 || gas_field(t, 208).address ? port_field(t, 76, 208) : 0;
    i->pm_timer_32bit = flags & FADT_TMR_VAL_EXT;
    i->pm1_evt_len = field(t, 88, 1);
    i->pm1_cnt_len = field(t, 89, 1);
    i->boot_flags = field(t, 109, 2);
    i->hw_reduced = flags & FADT_HW_REDUCED;
    i->reset_reg = gas_field(t, 116);
    i->reset_value = field(t, 128, 1);
    i->has_reset = (flags & FADT_RESET_REG_SUP) && i->reset_reg.address;
    i->facs = maddr(field(t, 132, 8) ? field(t, 132, 8) : field(t, 36, 4));
    i->dsdt = maddr(field(t, 140, 8) ? field(t, 140, 8) : field(t, 40, 4));
    i->sleep_control = gas_field(t, 244);
    i->sleep_status = gas_field(t, 256);
}

static void read_hpet(void)
{
    const struct table_header *t = acpi_find_table("HPET", 0);

    if (!t || t->length < 56 || gas_field(t, 40).space != ACPI_SPACE_MEMORY)
        return;
    acpi_info.hpet_address = maddr(gas_field(t, 40).address);
    acpi_info.hpet_number = field(t, 52, 1);
}

static void read_mcfg(void)
{
    const struct table_header *t = acpi_find_table("MCFG", 0);

    for (u32 at = 44; t && at + 16 <= t->length; at += 16) {
        struct acpi_mcfg m = { .address = maddr(field(t, at, 8)), .segment = field(t, at + 8, 2),
                               .first_bus = field(t, at + 10, 1), .last_bus = field(t, at + 11, 1) };

        if (m.address.v % (1u << 20) || m.last_bus < m.first_bus) {
            printk(LOG_WARNING "ACPI: MCFG entry %#lx for buses %u-%u makes no sense, ignored\n",
                   m.address.v, m.first_bus, m.last_bus);
            continue;
        }
        if (!table_full("PCI segments", acpi_info.nr_mcfg, ACPI_MAX_MCFG))
            acpi_info.mcfg[acpi_info.nr_mcfg++] = m;
    }
}

void acpi_init(maddr_t rsdp)
{
    if (!rsdp.v)
        rsdp = find_rsdp();
    nr_tables = 0;
    memset(&acpi_info, 0, sizeof(acpi_info));
    if (!rsdp.v) {
        printk(LOG_WARNING "ACPI: no tables found\n");
        return;
    }
    acpi_info.present = read_rsdp(rsdp);
    read_madt();
    read_fadt();
    read_hpet();
    read_mcfg();
    printk("ACPI: %u tables, %u CPUs, %u IO-APICs, PM timer %#x, HPET %#lx, MCFG %#lx\n", nr_tables,
           acpi_info.nr_cpus, acpi_info.nr_ioapics, acpi_info.pm_timer_port, acpi_info.hpet_address.v,
           acpi_info.nr_mcfg ? acpi_info.mcfg[0].address.v : 0);
}

/* --- Interrupt numbering ---------------------------------------------------------------------------------- */

#define INTI_POLARITY(f) ((f) & 3)
#define INTI_TRIGGER(f)  ((f) >> 2 & 3)
#define INTI_LOW 3
#define INTI_LEVEL 3

u32 acpi_isa_irq_to_gsi(u8 irq)
{
    for (unsigned i = 0; i < acpi_info.nr_overrides; i++)
        if (acpi_info.override[i].isa_irq == irq)
            return acpi_info.override[i].gsi;
    return irq;
}

void acpi_gsi_trigger(u32 gsi, bool *level, bool *low)
{
    *level = *low = gsi >= 16;
    for (unsigned i = 0; i < acpi_info.nr_overrides; i++)
        if (acpi_info.override[i].gsi == gsi) {
            *level = INTI_TRIGGER(acpi_info.override[i].flags) == INTI_LEVEL;
            *low = INTI_POLARITY(acpi_info.override[i].flags) == INTI_LOW;
            return;
        }
}
