/*
 * ACPI tables. Each piece of memory that the reader maps is a block of exactly that size, so that a byte more is seen. The input is a list
 * of tables, whose sums are made right unless it says otherwise.
 */
// MAX: 2048
// SOURCES: tests/unit/fake/log.c drivers/acpi/tables.c drivers/iommu/firmware.c drivers/iommu/dmar.c drivers/iommu/ivrs.c
#include <pvisor/acpi.h>
#include <pvisor/iommu.h>
#include <pvisor/lib.h>
#include "fake/log.h"
#include "fuzz.h"

void *malloc(size_t size);
void free(void *p);

#define MEMORY  0x100000UL
#define RSDP_AT 0xe4560UL
#define ROOT_AT 0x20000UL
#define TABLES_AT 0x30000UL

static u8 memory[MEMORY];
static void *mapped[4096];
static unsigned nr_mapped;

void *acpi_map(maddr_t a, size_t len)
{
    if (a.v >= MEMORY || len > MEMORY - a.v || !len || nr_mapped == ARRAY_SIZE(mapped))
        return NULL;
    mapped[nr_mapped] = malloc(len);
    memcpy(mapped[nr_mapped], memory + a.v, len);
    return mapped[nr_mapped++];
}

/* Each function's registers are a number made of its name: bridges and none, any buses behind them. */
u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    return (u32)(((u64)sbdf * 0x9e3779b1 ^ reg * 0x85ebu) >> 7) & (bytes == 4 ? ~0u : (1u << 8 * bytes) - 1) & (reg == 0x0e ? 1 : ~0u);
}

static void unmap_all(void)
{
    while (nr_mapped)
        free(mapped[--nr_mapped]);
}

static void put(u64 at, u64 v, unsigned n) { memcpy(memory + at, &v, n); }

static void fix_sum(u64 start, u64 len, u64 where)
{
    u8 sum = 0;

    memory[where] = 0;
    for (u64 i = 0; i < len; i++)
        sum += memory[start + i];
    memory[where] = -sum;
}

/* A table at `at`: its kind, how much longer it says that it is, what it holds. Returns what it takes of memory. */
static u64 put_table(struct fuzz_input *in, u64 at, bool honest)
{
    static const char kinds[10][5] = { "APIC", "FACP", "HPET", "MCFG", "XSDT", "RSDT", "SSDT", "\0\0\0", "DMAR", "IVRS" };
    u8 kind = (u8)take(in, 1);
    u64 bytes = take(in, 2) % 1024, length = 36 + bytes + (kind & 0x40 ? (u64)(s64)(s8)take(in, 1) : 0);

    memcpy(memory + at, kinds[(kind & 0x3f) % 10], 4);
    for (u64 i = 0; i < bytes; i++)
        memory[at + 36 + i] = (u8)take(in, 1);
    put(at + 4, kind & 0x80 ? take(in, 4) : length, 4);
    memcpy(&length, memory + at + 4, 4);
    if (honest && (u32)length <= MEMORY - at && (u32)length > 9)
        fix_sum(at, (u32)length, at + 9);
    return ROUND_UP(36 + bytes, 16);
}

static void put_machine(struct fuzz_input *in)
{
    u8 how = (u8)take(in, 1), entry = how & 1 ? 4 : 8;
    u64 at = TABLES_AT, n = 0;

    memset(memory, 0, sizeof(memory));
    while (in->at < in->end && at < RSDP_AT - 4096 && n < 120) {
        put(ROOT_AT + 36 + n++ * entry, at, entry);
        at += put_table(in, at, !(how & 2));
    }
    put(ROOT_AT, entry == 4 ? 0x54445352 : 0x54445358, 4);     /* RSDT, XSDT */
    put(ROOT_AT + 4, 36 + n * entry + (how & 4 ? 3 : 0), 4);
    fix_sum(ROOT_AT, 36 + n * entry + (how & 4 ? 3 : 0), ROOT_AT + 9);
    memcpy(memory + RSDP_AT, "RSD PTR ", 8);
    put(RSDP_AT + 15, entry == 4 ? 0 : 2, 1);
    put(RSDP_AT + 16, ROOT_AT, 4);
    put(RSDP_AT + 24, ROOT_AT, 8);
    fix_sum(RSDP_AT, 20, RSDP_AT + 8);
    fix_sum(RSDP_AT, 36, RSDP_AT + 32);
}

static void is_sound(const struct acpi_info *i)
{
    bool level, low;

    EXPECT(i->nr_cpus <= ACPI_MAX_CPUS && i->nr_ioapics <= ACPI_MAX_IOAPICS && i->nr_overrides <= ACPI_MAX_OVERRIDES);
    EXPECT(i->nr_mcfg <= ACPI_MAX_MCFG && i->nr_nmis <= ACPI_MAX_NMI);
    for (u32 n = 0; n < i->nr_mcfg; n++)
        EXPECT(i->mcfg[n].first_bus <= i->mcfg[n].last_bus);
    for (u32 n = 0; n < 32; n++)
        acpi_gsi_trigger(acpi_isa_irq_to_gsi((u8)n), &level, &low);
}

static void iommus_are_sound(const struct iommu_info *i)
{
    EXPECT(i->nr_units <= IOMMU_MAX_UNITS && i->nr_scopes <= IOMMU_MAX_SCOPES && i->nr_regions <= IOMMU_MAX_REGIONS);
    EXPECT(!i->nr_units == (i->maker == IOMMU_NONE));
    for (u32 n = 0; n < i->nr_scopes; n++)
        EXPECT(i->scopes[n].unit < i->nr_units && i->scopes[n].first <= i->scopes[n].last);
    for (u32 n = 0; n < i->nr_regions; n++)
        EXPECT(i->regions[n].start.v < i->regions[n].end.v && !((i->regions[n].start.v | i->regions[n].end.v) & 0xfff));
    (void)iommu_unit_of(0x10);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };

    log_clear();
    put_machine(&in);
    acpi_init(maddr(size & 1 ? RSDP_AT : 0));
    is_sound(&acpi_info);
    iommu_read_firmware();
    iommus_are_sound(&iommu_info);
    (void)acpi_find_table("SSDT", 1);
    unmap_all();
    return 0;
}
