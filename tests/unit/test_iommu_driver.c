/*
 * Both drivers against models of their units, which carry out what is written to their registers and rings, or, when told, do not answer:
 * what a unit is told in which order, what functions' entries say, that nothing is freed before the flush, and what is said of faults.
 */
// SOURCES: tests/unit/fake/log.c drivers/iommu/table.c drivers/iommu/vtd.c drivers/iommu/amd.c arch/x86/irq/msi_message.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "drivers/iommu/iommu.c"
#include "fake/log.h"

void abort(void) noreturn_fn;
void *calloc(size_t n, size_t size);
void free(void *p);

/* --- The machine --- */

#define PAGES 4096u
static u8 memory[PAGES][PAGE_SIZE] __attribute__((aligned(1 << 21)));
u64 fake_direct_map, nr_frames = PAGES;
static unsigned used, freed;
static bool no_memory;
static unsigned pieces_left = ~0u;  /* how often there is memory still */
static u64 time_now;
struct e820_entry host_e820[E820_MAX] = { { 0x100000, 0x40000000, E820_RAM } };
unsigned host_e820_nr = 1;
struct iommu_info iommu_info;
struct acpi_info acpi_info = { .nr_ioapics = 1, .ioapic = { { .id = 4 } } };
u32 nr_irqs = 200, nr_gsis = 24;
static bool old_ioapic;
static bool x2apic;
static const struct irq_remapper *remapped_by;
static unsigned retargets;
static u8 firmware_table[64];

void *alloc_pages(unsigned order)
{
    void *p;

    if (no_memory || !pieces_left)
        return NULL;
    pieces_left--;
    used = (used + (1u << order) - 1) >> order << order;
    p = memory[used];
    used += 1u << order;
    assert_true(used <= PAGES);
    memset(p, 0, PAGE_SIZE << order);
    return p;
}

void *xzalloc_bytes(size_t size) { return no_memory || !pieces_left ? NULL : (pieces_left--, calloc(1, size)); }
void xfree(void *p) { free(p); }
int ioapic_id(u32 gsi) { return gsi < nr_gsis ? 4 : -1; }
bool ioapics_take_eoi(void) { return !old_ioapic; }
void free_pages(void *p, unsigned order) { (void)p, (void)order, freed++; }
void *ioremap(maddr_t a, size_t size) { (void)a, (void)size; return memory; }
/* Of device memory dom0 may write all but the unit's registers. */
static bool may_write(u64 first, u64 last) { return last < 0xfed90 || first > 0xfed90; }
static u64 max_ram;
mfn_t max_ram_mfn(void) { return mfn_kept(max_ram); }
u64 now_ns(void) { return time_now += MILLISECS(1); }
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu) { (void)cpu, t->fn = fn, t->data = data; }
void timer_set(struct timer *t, u64 expires) { t->expires = expires; }
const void *acpi_find_table(const char *signature, unsigned nth) { return (void)signature, nth ? NULL : firmware_table; }
bool lapic_is_x2apic(void) { return x2apic; }
void irq_remap_by(const struct irq_remapper *r) { remapped_by = r, retargets++; }
void spin_lock(spinlock_t *l) { (void)l; }
void spin_unlock(spinlock_t *l) { (void)l; }
u64 spin_lock_irqsave(spinlock_t *l) { return (void)l, 0; }
void spin_unlock_irqrestore(spinlock_t *l, u64 flags) { (void)l, (void)flags; }

void panic(const char *fmt, ...)
{
    fail_msg("%s", fmt);
    abort();
}

static struct pci_dev device;
static bool conventional;           /* functions are on an old bus, behind a bridge */
struct pci_dev *pci_find(u32 sbdf)
{
    static struct pci_dev other;

    other = (struct pci_dev){ .sbdf = sbdf, .named_by_bridge = conventional };
    return sbdf == device.sbdf ? &device : &other;
}

const struct iommu_unit *iommu_unit_of(u32 sbdf) { return sbdf >> 16 ? NULL : &iommu_info.units[0]; }

int cmdline_list(const char *value, int (*parse)(void *, const char *, size_t), void *to) { return parse(to, value, strlen(value)); }

/* --- The unit's registers, and what it was told --- */

static u64 registers[0x4000 / 8];
static u64 deaf;                    /* VT-d: commands of GCMD that have no effect; AMD: the same of CONTROL. Bit 63: its queue stands */
#define DEAF_QUEUE (1UL << 63)
static char told[4096];
static void (*on_flush)(void);

static void tell(const char *what) { snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s ", what); }
static u32 *word(u32 reg) { return (u32 *)registers + reg / 4; }
static void *at(u64 address) { return memory[0] + address; }

u32 io_read32(const struct io_unit *u, u32 reg) { return (void)u, *word(reg); }
u64 io_read64(const struct io_unit *u, u32 reg) { return (void)u, registers[reg / 8]; }

/* The ring up to the new tail: `is_wait` and `name` are the maker's. */
static void carry_out(u64 ring, u64 *head, u64 tail, bool (*step)(const u64 *command))
{
    for (; *head != tail && !(deaf & DEAF_QUEUE); *head = (*head + 16) % PAGE_SIZE)
        assert_true(step(at((ring & 0xffffffffff000) + *head)));
}

static bool vtd_step(const u64 *c)
{
    switch (c[0] & 0xf) {
    case 1: tell("contexts"); return true;
    case 2:
        if (on_flush)
            on_flush();
        tell("iotlb");
        return true;
    case 4: tell("interrupts"); return true;
    case 5: *(u32 *)at(c[1]) = (u32)(c[0] >> 32); return true;
    }
    return false;
}

static void vtd_command(u32 v)
{
    static const struct { u32 bit; const char *on; } names[] = {
        { 1u << 31, "translate" }, { 1u << 30, "root" }, { 1u << 26, "queue" }, { 1u << 25, "remap" }, { 1u << 24, "table" },
        { 1u << 23, "old" } };
    u32 *status = word(0x1c);

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        u32 bit = names[i].bit;
        bool on = v & bit, lasting = !(bit & (1u << 30 | 1u << 24));

        if (deaf & bit || on == !!(*status & bit) || (!on && !lasting))
            continue;
        *status ^= bit;
        tell(on ? "" : "no");
        tell(names[i].on);
    }
}

void io_write32(struct io_unit *u, u32 reg, u32 v)
{
    (void)u;
    if (driver == &vtd_driver && reg == 0x18)
        vtd_command(v);
    else if (driver == &vtd_driver && v & 1u << 31 && reg >= 0x200)
        *word(reg) &= ~(1u << 31);
    else
        *word(reg) = v;
}

/* What AMD's unit remembers of interrupts, until it is told to forget: messages, and what became of them. */
static struct arrival { bool comes; u32 apic_id; u8 vector; } arrivals[64];
static struct { u16 id; u32 data; } remembered[64];
static unsigned nr_remembered;
static struct { u16 id; u64 word; } functions[16];  /* and what their entries say of interrupts */
static unsigned nr_functions;

static u64 function_says(u16 id)
{
    u64 word = ((u64 *)at(registers[0] & PAGE_MASK))[4 * id + 2];

    for (unsigned i = 0; i < nr_functions; i++)
        if (functions[i].id == id)
            return functions[i].word;
    assert_true(nr_functions < ARRAY_SIZE(functions));
    functions[nr_functions].id = id;
    return functions[nr_functions++].word = word;
}

static void forget_function(u16 id)
{
    for (unsigned i = 0; i < nr_functions; i++)
        if (functions[i].id == id) {
            functions[i] = functions[--nr_functions];
            return;
        }
}

static void forget_messages(u16 id)
{
    for (unsigned i = 0; i < nr_remembered; i++)
        if (remembered[i].id == id) {
            nr_remembered--;
            remembered[i] = remembered[nr_remembered];
            arrivals[i--] = arrivals[nr_remembered];
        }
}

/* An entry of either format, where control says which: only fixed interrupts for one CPU, and no reserved bit. */
static struct arrival by_entry(u64 root, u32 index)
{
    u32 narrow = ((u32 *)at(root))[index];
    u64 *wide = (u64 *)at(root) + 2 * index;

    if (!(registers[0x18 / 8] & 1 << 17)) {
        assert_int_equal(narrow & 0xff0000fe, 0);
        return (struct arrival){ narrow & 1, narrow >> 8 & 0xff, (u8)(narrow >> 16) };
    }
    assert_true(registers[0x18 / 8] & 1UL << 50);
    assert_int_equal(wide[0] & 0xffffffff000000fe, 0);
    assert_int_equal(wide[1] & 0x00ffffffffffff00, 0);
    return (struct arrival){ wide[0] & 1, (u32)(wide[0] >> 8) | (u32)(wide[1] >> 56) << 24, (u8)wide[1] };
}

/* Section 2.2.5: fixed and arbitrated messages go by the table, others where their bit in the function's entry says so. */
static struct arrival by_function(u16 id, u32 data)
{
    static const u8 passed[8] = { [4] = 58, [5] = 56, [7] = 57 };
    u64 e = function_says(id);
    u32 index = data & 0x7ff, kind = data >> 8 & 7;

    assert_int_equal(e & 0x08f0000000000000, 0);
    if (!(e & 1))
        return (struct arrival){ true, 0xff, (u8)data };
    if (kind > 1)
        return (struct arrival){ passed[kind] && e >> passed[kind] & 1, 0xff, (u8)data };
    if ((e >> 60 & 3) != 2 || index >= 1u << (e >> 1 & 15))
        return (struct arrival){ 0 };
    return by_entry(e & 0xfffffffffff80, index);
}

static struct arrival sends(u16 id, u32 data)
{
    for (unsigned i = 0; i < nr_remembered; i++)
        if (remembered[i].id == id && remembered[i].data == data)
            return arrivals[i];
    if (nr_remembered == ARRAY_SIZE(remembered))
        return by_function(id, data);
    remembered[nr_remembered].id = id;
    remembered[nr_remembered].data = data;
    return arrivals[nr_remembered++] = by_function(id, data);
}

static bool amd_step(const u64 *c)
{
    switch (c[0] >> 60) {
    case 1: *(u64 *)at(c[0] & 0xffffffffffff8) = c[1]; return true;
    case 2:
        forget_function((u16)c[0]);
        tell("entry");
        return true;
    case 5:
        assert_int_equal(c[0] & 0x0fffffffffff0000, 0);
        forget_messages((u16)c[0]);
        tell("interrupts");
        return true;
    case 3:
        if (on_flush)
            on_flush();
        tell("pages");
        return true;
    }
    return false;
}

void io_write64(struct io_unit *u, u32 reg, u64 v)
{
    static u64 amd_head;

    (void)u;
    registers[reg / 8] = v;
    if (driver == &vtd_driver && reg == 0x88)
        carry_out(registers[0x90 / 8], &registers[0x80 / 8], v, vtd_step);
    if (driver == &amd_driver && reg == 0x18)
        registers[0x2020 / 8] = (v & 1 && v & 1 << 12 ? 1 << 4 : 0) | (v & 1 && v & 1 << 2 ? 1 << 3 : 0);
    if (driver == &amd_driver && reg == 0x18 && deaf & ~DEAF_QUEUE)
        registers[0x2020 / 8] = v & 1 ? 0 : registers[0x2020 / 8];
    if (driver == &amd_driver && reg == 0x2000)
        amd_head = v;
    if (driver == &amd_driver && reg == 0x2008)
        carry_out(registers[1], &amd_head, v, amd_step);
}

/* --- Set-up --- */

#define VTD_CAP (2UL << 8 | 0x22UL << 24 | 3UL << 34 | 1UL << 40)      /* 3 levels, two records at 0x220, all sizes */
#define VTD_ECAP 0x4bUL                                                 /* coherent, queue, remapping, pass-through */

/* option: NULL: as it is. */
static void machine(enum iommu_maker maker, const char *option)
{
    memset(registers, 0, sizeof(registers));
    memset(units, 0, sizeof(units));
    memset(spaces, 0, sizeof(spaces));
    memset(told, 0, sizeof(told));
    lines_left = LINES;
    memset(firmware_table, 0, sizeof(firmware_table));
    memcpy(firmware_table, maker == IOMMU_VTD ? "DMAR" : "IVRS", 4);
    log_clear();
    fake_direct_map = (u64)memory;
    used = 1;
    max_ram = 0x40000;
    freed = retargets = 0;
    deaf = nr_remembered = nr_functions = 0;
    x2apic = iommu_on = remaps = old_ioapic = false;
    remapped_by = NULL;
    on_flush = NULL;
    driver = NULL;
    iommu_info = (struct iommu_info){ .maker = maker, .remaps_interrupts = true, .nr_units = 1, .nr_scopes = 1,
                                      .units = { { .registers = maddr(0xfed90000), .all_others = true } },
                                      .scopes = { { .kind = IOMMU_IOAPIC, .id = 4, .first = 0xf0f8, .last = 0xf0f8 } } };
    registers[0x08 / 8] = maker == IOMMU_VTD ? VTD_CAP : 0;
    registers[0x10 / 8] = maker == IOMMU_VTD ? VTD_ECAP : 0;
    if (option)
        assert_int_equal(parse_iommu(option), 0);
    iommu_init();
}

static void start_it(enum iommu_maker maker)
{
    machine(maker, "on");
    assert_int_equal(iommu_set(SPACE_DOM0, 0x200, 0x40000, true), 0);
    told[0] = '\0';
    iommu_start(may_write);
    assert_true(iommu_on);
}

static bool logged(const char *text) { return strstr(log_text, text); }

/* --- On and off --- */

static void vtd_is_told_in_this_order(void **state)
{
    u64 *root, *contexts;

    (void)state;
    start_it(IOMMU_VTD);
    assert_string_equal(told, " queue  root contexts iotlb  translate  table interrupts  remap ");
    root = at(registers[0x20 / 8]);
    assert_int_equal(root[2 * 5] & 1, 1);
    contexts = at(root[2 * 5] & PAGE_MASK);
    assert_int_equal(contexts[2 * 9], virt_to_maddr(spaces[SPACE_DOM0].root).v | 1);
    assert_int_equal(contexts[2 * 9 + 1], 1 << 8 | 1);                  /* domain 1, 3 levels */
    assert_memory_equal(firmware_table, "XMAR", 4);
    assert_int_equal((u8)(firmware_table[0] + firmware_table[9]), 'D');
    assert_int_equal(retargets, 1);
    assert_true(logged("IOMMU: on; VT-d second stage, 3 levels"));
}

/* Records of faults may lie beyond the first page: nobody else has any of it. */
static void its_registers_are_as_many_as_it_says(void **state)
{
    maddr_t first;
    u64 bytes;

    (void)state;
    start_it(IOMMU_VTD);
    assert_true(iommu_registers(0, &first, &bytes) && !iommu_registers(1, &first, &bytes));
    assert_int_equal(bytes, PAGE_SIZE);
    machine(IOMMU_VTD, "off");
    registers[0x08 / 8] |= 0x200UL << 24;
    options.on = true;
    iommu_init();
    assert_true(iommu_registers(0, &first, &bytes));
    assert_int_equal(bytes, 16 * (0x222 + 2));
}

static void amd_has_an_entry_for_each_function(void **state)
{
    u64 *entries;

    (void)state;
    start_it(IOMMU_AMD);
    assert_int_equal(registers[0] & 0x1ff, 0x1ff);
    entries = at(registers[0] & PAGE_MASK);
    assert_int_equal(entries[4 * 0x1234], 0x6000000000000603UL | virt_to_maddr(spaces[SPACE_DOM0].root).v);
    assert_int_equal(entries[4 * 0xffff + 1], 1);
    assert_int_equal(registers[0x18 / 8] & 0x1005, 0x1005);
    assert_true(logged("IOMMU: on; AMD v1, 3 levels"));
    assert_true(logged("interrupts are remapped"));
}

static void passes_on_where_told(void **state)
{
    u64 *contexts;

    (void)state;
    machine(IOMMU_VTD, "dom0-passthrough");
    iommu_start(may_write);
    contexts = at(*(u64 *)at(registers[0x20 / 8]) & PAGE_MASK);
    assert_int_equal(contexts[0], 9);
    assert_true(logged("dom0's devices reach all memory"));
}

/* Before any other test, each of which has options. */
static void is_on_without_a_word(void **state)
{
    (void)state;
    machine(IOMMU_NONE, NULL);
    iommu_start(may_write);
    assert_false(iommu_on || iommu_wanted());
    assert_string_equal(log_text, "");
    machine(IOMMU_VTD, NULL);
    iommu_start(may_write);
    assert_true(iommu_on && iommu_remaps());
    machine(IOMMU_NONE, "on");
    assert_true(logged("IOMMU: there is none"));
}

static void is_off_where_told(void **state)
{
    (void)state;
    machine(IOMMU_VTD, "off");
    iommu_start(may_write);
    assert_false(iommu_on || iommu_wanted());
    assert_string_equal(told, "");
    assert_true(logged("not used, by the command line"));
}

/* Whatever it is that the unit does not do: the boot goes on, without, and nothing translates. */
static void a_unit_that_does_not_answer_is_given_up(void **state)
{
    static const u64 commands[] = { 1u << 31, 1u << 30, 1u << 26, 1u << 25, 1u << 24, DEAF_QUEUE };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        machine(IOMMU_VTD, "on");
        deaf = commands[i];
        iommu_start(may_write);
        assert_false(iommu_on || iommu_wanted() || remapped_by);
        assert_int_equal(*word(0x1c) & (1u << 31 | 1u << 25), 0);
        assert_true(logged("IOMMU: the unit at 0xfed90000 does not answer: "));
        assert_true(logged("IOMMU: it is not used: devices reach all memory"));
        assert_memory_equal(firmware_table, "DMAR", 4);
    }
    for (unsigned i = 0; i < 2; i++) {
        machine(IOMMU_AMD, "on");
        deaf = i ? DEAF_QUEUE : 1;
        iommu_start(may_write);
        assert_false(iommu_on);
        assert_int_equal(registers[0x18 / 8] & 1, 0);
        assert_true(logged("does not answer: "));
    }
}

static void a_unit_that_cannot_is_not_used(void **state)
{
    static const struct { u64 cap, ecap; const char *why; } cases[] = {
        { ~0UL, ~0UL, "does not answer" }, { VTD_CAP & ~(31UL << 8), VTD_ECAP, "translates nothing" }, { VTD_CAP, 9, "no queue" } };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        machine(IOMMU_VTD, "off");
        registers[0x08 / 8] = cases[i].cap;
        registers[0x10 / 8] = cases[i].ecap;
        options.on = true;
        iommu_init();
        assert_false(iommu_wanted());
        assert_true(logged(cases[i].why));
    }
    machine(IOMMU_VTD, "off");
    iommu_info.units[0].registers = maddr(0x1000000);
    options.on = true;
    iommu_init();
    assert_false(iommu_wanted());
    assert_true(logged("where RAM is"));
}

/* --- Functions that change hands --- */

#define FUNCTION 0x0219u
#define NEW SPACE_FIRST_DOMU

static u64 *entry_of_maker(enum iommu_maker maker, u16 id)
{
    u64 *root = at(registers[maker == IOMMU_VTD ? 0x20 / 8 : 0] & PAGE_MASK);

    return maker == IOMMU_VTD ? (u64 *)at(root[2 * (id >> 8)] & PAGE_MASK) + 2 * (id & 255) : root + 4 * id;
}

static u64 tables_of(enum iommu_maker maker, u16 id) { return entry_of_maker(maker, id)[0] & 0xffffffffff000; }
static u16 number_at(enum iommu_maker maker, u16 id) { return (u16)(entry_of_maker(maker, id)[1] >> (maker == IOMMU_VTD ? 8 : 0)); }

static u64 *entry_of_function(u16 id) { return entry_of_maker(IOMMU_AMD, id); }

static enum iommu_maker watched;
static unsigned flushes;
static u64 tables_at_flush[2];

static void look_at_entry(void)
{
    if (flushes < 2)
        tables_at_flush[flushes++] = tables_of(watched, FUNCTION);
}

/* In between it has none, and the unit has forgotten the old before it can learn of the new. Nobody else is moved. */
static void a_function_moves_from_one_space_to_another(void **state)
{
    (void)state;
    for (watched = IOMMU_VTD; watched <= IOMMU_AMD; watched++) {
        u64 dom0s;

        start_it(watched);
        assert_int_equal(iommu_space_make(NEW), 0);
        dom0s = tables_of(watched, FUNCTION);
        told[0] = '\0';
        flushes = 0;
        on_flush = look_at_entry;
        assert_int_equal(iommu_move(FUNCTION, NEW), 0);
        on_flush = NULL;
        assert_string_equal(told, watched == IOMMU_VTD ? "contexts iotlb contexts iotlb " : "entry pages entry ");
        assert_int_equal(tables_at_flush[0], 0);
        assert_int_equal(tables_of(watched, FUNCTION), virt_to_maddr(spaces[NEW].root).v);
        assert_int_equal(number_at(watched, FUNCTION), NEW + 1);
        assert_int_equal(tables_of(watched, FUNCTION + 1), dom0s);
        assert_int_equal(tables_of(watched, FUNCTION + 0x100), dom0s);
        assert_int_equal(iommu_move(FUNCTION, SPACE_NOBODY), 0);
        assert_int_equal(tables_of(watched, FUNCTION), virt_to_maddr(spaces[SPACE_NOBODY].root).v);
        assert_int_equal(iommu_move(FUNCTION, SPACE_DOM0), 0);
        assert_int_equal(tables_of(watched, FUNCTION), dom0s);
    }
}

static void nobodys_space_reaches_nothing(void **state)
{
    (void)state;
    start_it(IOMMU_VTD);
    for (u64 frame = 0; frame < 0x40000; frame += 0x111)
        assert_false(iommu_reaches(SPACE_NOBODY, frame));
}

static void without_memory_a_function_stays_where_it_is(void **state)
{
    u64 before;

    (void)state;
    start_it(IOMMU_VTD);
    before = entry_of_maker(IOMMU_VTD, FUNCTION)[0];
    no_memory = true;
    assert_int_equal(iommu_move(FUNCTION, SPACE_NOBODY), -ENOMEM);
    assert_int_equal(iommu_space_make(NEW), -ENOMEM);
    no_memory = false;
    assert_int_equal(entry_of_maker(IOMMU_VTD, FUNCTION)[0], before);
}

/* What one of them reaches the others do not; the end gives all its tables back, and then it reaches nothing. */
static void spaces_are_apart_and_end(void **state)
{
    (void)state;
    for (enum iommu_maker maker = IOMMU_VTD; maker <= IOMMU_AMD; maker++) {
        unsigned before, tables;
        u64 first;

        start_it(maker);
        before = used;
        assert_int_equal(iommu_space_make(NEW), 0);
        assert_int_equal(iommu_set(NEW, 0x345, 0x346, true), 0);
        assert_int_equal(iommu_set(NEW, 0x30345, 0x30347, true), 0);
        assert_true(iommu_reaches(NEW, 0x345) && iommu_reaches(NEW, 0x30346));
        assert_false(iommu_reaches(NEW, 0x344) || iommu_reaches(SPACE_NOBODY, 0x345) || iommu_reaches(NEW + 1, 0x345));
        assert_int_equal(spaces[NEW].largest, 1);
        tables = used - before;
        told[0] = '\0';
        freed = 0;
        first = 0;
        while (!iommu_space_end(NEW, &first))
            ;
        assert_true(strstr(told, maker == IOMMU_VTD ? "iotlb" : "pages"));
        assert_int_equal(freed, tables);
        assert_false(iommu_reaches(NEW, 0x345));
        assert_int_equal(iommu_set(NEW, 0x345, 0x346, true), 0);
        assert_false(iommu_reaches(NEW, 0x345));
    }
}

/* Each call goes on where the last one was, however much there is that has nothing. */
static void the_end_comes_on_the_largest_machines(void **state)
{
    u64 first = 0, far = 5UL << 27;
    unsigned calls = 1;

    (void)state;
    machine(IOMMU_VTD, "off");
    registers[0x08 / 8] |= 4UL << 8;                                    /* tables of 4 levels */
    max_ram = far;
    options.on = true;
    iommu_init();
    assert_int_equal(levels, 4);
    assert_int_equal(iommu_space_make(NEW), 0);
    for (u64 frame = 0; frame <= far; frame += 1UL << 27)               /* in each of 5 times 512 GiB */
        assert_int_equal(iommu_set(NEW, frame + 7, frame + 8, true), 0);
    for (; !iommu_space_end(NEW, &first); calls++)
        assert_true(calls < 100);
    assert_true(calls > 1);
    assert_null(spaces[NEW].root);
}

/* Where the unit can, a domU's device finds nothing in memory that caches know better. dom0's may. */
static void domus_devices_look_into_caches(void **state)
{
    (void)state;
    for (unsigned can = 0; can < 2; can++) {
        machine(IOMMU_VTD, "off");
        registers[0x10 / 8] |= can << 7;
        options.on = true;
        iommu_init();
        assert_int_equal(iommu_space_make(NEW), 0);
        for (unsigned space = SPACE_DOM0; space <= NEW; space += NEW - SPACE_DOM0) {
            const u64 *table = spaces[space].root;

            assert_int_equal(iommu_set(space, 0x345, 0x346, true), 0);
            table = at(table[0] & PAGE_MASK);
            table = at(table[0x345 >> 9] & PAGE_MASK);
            assert_int_equal(table[0x345 & 511], 0x345003 | (can && space == NEW ? 1 << 11 : 0));
        }
    }
}

static bool even(unsigned space, u64 frame) { return space == NEW && !(frame & 1); }

static void follows_what_it_is_told_under_the_lock(void **state)
{
    (void)state;
    start_it(IOMMU_VTD);
    assert_int_equal(iommu_space_make(NEW), 0);
    assert_int_equal(iommu_set(NEW, 0x345, 0x346, true), 0);
    told[0] = '\0';
    assert_int_equal(iommu_follow(NEW, 0x344, even), 0);
    assert_string_equal(told, "");                                      /* what is added needs no flush */
    assert_int_equal(iommu_follow(NEW, 0x345, even), 0);
    assert_string_equal(told, "iotlb ");
    assert_true(iommu_reaches(NEW, 0x344) && !iommu_reaches(NEW, 0x345));
}

static unsigned told_of(const char *what)
{
    unsigned n = 0;

    for (const char *p = told; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

/* An extent that a domain gives up; in two spaces at once, for which the unit is waited for once. */
static void many_frames_are_forgotten_with_one_command(void **state)
{
    (void)state;
    for (enum iommu_maker maker = IOMMU_VTD; maker <= IOMMU_AMD; maker++) {
        const char *flush = maker == IOMMU_VTD ? "iotlb" : "pages";
        u32 waits;

        start_it(maker);
        assert_true(!iommu_space_make(NEW) && !iommu_space_make(NEW + 1));
        assert_true(!iommu_set(NEW, 0x200, 0x400, true) && !iommu_set(NEW + 1, 0x400, 0x401, true));
        told[0] = '\0';
        for (u64 frame = 0x200; frame < 0x400; frame++) {
            assert_true(iommu_forget(NEW, frame));
            assert_false(iommu_reaches(NEW, frame) || iommu_forget(NEW, frame));
        }
        assert_true(iommu_forget(NEW + 1, 0x400));
        assert_string_equal(told, "");
        waits = units[0].waits;
        iommu_flush(1 << NEW);
        assert_int_equal(told_of(flush), 1);
        iommu_flush(1 << NEW | 1 << (NEW + 1));
        assert_int_equal(told_of(flush), 3);
        assert_int_equal(units[0].waits, waits + 2);
    }
}

/* Functions whose requests are known by another's name, or that the firmware uses, cannot be kept apart. */
static void some_functions_cannot_be_moved(void **state)
{
    (void)state;
    machine(IOMMU_VTD, "off");
    assert_non_null(strstr(iommu_why_not(FUNCTION), "no IOMMU is used"));
    start_it(IOMMU_VTD);
    assert_null(iommu_why_not(FUNCTION));
    assert_non_null(strstr(iommu_why_not(0x10000 | FUNCTION), "no IOMMU translates"));
    iommu_info.nr_regions = 1;
    iommu_info.regions[0] = (struct iommu_region){ maddr(0x50000000), maddr(0x50001000), .first = FUNCTION, .last = FUNCTION };
    assert_non_null(strstr(iommu_why_not(FUNCTION), "the firmware uses it"));
    assert_null(iommu_why_not(FUNCTION + 1));
    iommu_info.scopes[iommu_info.nr_scopes++] =
        (struct iommu_scope){ .kind = IOMMU_FUNCTIONS, .first = 0x300, .last = 0x30f, .has_alias = true, .alias = 0x308 };
    assert_non_null(strstr(iommu_why_not(0x300), "cannot tell it from others"));
    assert_non_null(strstr(iommu_why_not(0x308), "cannot tell it from others"));
    assert_null(iommu_why_not(0x310));
    assert_non_null(strstr(iommu_why_not(0xf0f8), "cannot tell it from others"));   /* what interrupts of lines carry */
    conventional = true;
    assert_non_null(strstr(iommu_why_not(0x310), "cannot tell it from others"));
    conventional = false;
    device = (struct pci_dev){ .sbdf = 0x310, .has_phantoms = true };
    assert_non_null(strstr(iommu_why_not(0x310), "numbers that are no function's"));
    assert_null(iommu_why_not(0x311));
    device = (struct pci_dev){ 0 };
}

static void units_say_how_many_domains_they_tell_apart(void **state)
{
    (void)state;
    machine(IOMMU_VTD, "on");
    assert_int_equal(iommu_nr_spaces(), 15);
    machine(IOMMU_AMD, "on");
    assert_int_equal(iommu_nr_spaces(), IOMMU_SPACES);
}

static void regions_that_devices_may_not_have_are_left_out(void **state)
{
    (void)state;
    machine(IOMMU_VTD, "on");
    iommu_info.nr_regions = 3;
    iommu_info.regions[0] = (struct iommu_region){ .start = maddr(0x50000000), .end = maddr(0x50002000) };
    iommu_info.regions[1] = (struct iommu_region){ .start = maddr(0x200000), .end = maddr(0x201000) };
    iommu_info.regions[2] = (struct iommu_region){ .start = maddr(0xfed80000), .end = maddr(0xfed91000) };
    iommu_start(may_write);
    assert_true(iommu_on);
    assert_true(iommu_reaches(SPACE_DOM0, 0x50001) && !iommu_reaches(SPACE_DOM0, 0x50002) && !iommu_reaches(SPACE_DOM0, 0x200));
    assert_false(iommu_reaches(SPACE_DOM0, 0xfed80) || iommu_reaches(SPACE_DOM0, 0xfed90));
    assert_true(logged("[0xfed80000, 0xfed90fff] that the firmware reserves is what no domain may write: left out"));
    assert_true(logged("[0x200000, 0x200fff] that the firmware reserves is RAM"));
}

/* --- Memory that goes --- */

static unsigned freed_at_flush;
static bool gone_at_flush;

static void look_at_flush(void)
{
    freed_at_flush = freed;
    gone_at_flush = !io_lookup(&spaces[SPACE_DOM0], 0x12345);
}

/* When the unit is told to forget, the entry is gone, and its table is not freed; when the call returns, it has been told. */
static void flushes_after_the_change_and_before_freeing(void **state)
{
    (void)state;
    for (enum iommu_maker maker = IOMMU_VTD; maker <= IOMMU_AMD; maker++) {
        start_it(maker);
        assert_int_equal(iommu_set(SPACE_DOM0, 0x12345, 0x12346, false), 0);
        assert_int_equal(iommu_set(SPACE_DOM0, 0x12345, 0x12346, true), 0);
        on_flush = look_at_flush;
        told[0] = '\0';
        freed = 0;
        assert_int_equal(iommu_set(SPACE_DOM0, 0x12200, 0x12400, false), 0);
        assert_string_equal(told, maker == IOMMU_VTD ? "iotlb " : "pages ");
        assert_true(gone_at_flush);
        assert_int_equal(freed_at_flush, 0);
        assert_int_equal(freed, 1);
    }
}

/* Where dom0's frames are its devices' exactly, one can be taken away however short memory is: it is about to be a table. */
static void a_frame_is_taken_away_without_memory(void **state)
{
    (void)state;
    machine(IOMMU_VTD, "dom0-strict");
    assert_int_equal(iommu_set(SPACE_DOM0, 0x200, 0x800, true), 0);
    no_memory = true;
    assert_int_equal(iommu_set(SPACE_DOM0, 0x345, 0x346, false), 0);
    no_memory = false;
    assert_true(iommu_reaches(SPACE_DOM0, 0x344) && !iommu_reaches(SPACE_DOM0, 0x345) && iommu_reaches(SPACE_DOM0, 0x346));
}

/* --- Interrupts --- */

static void interrupts_are_one_functions(void **state)
{
    struct irq_route i = { .irq = 77, .apic_id = 3, .vector = 0x41 };
    struct msi_message m;
    u64 *entry;

    (void)state;
    start_it(IOMMU_VTD);
    entry = (u64 *)at(registers[0xb8 / 8] & PAGE_MASK) + 2 * 24;        /* behind those of the lines */
    assert_int_equal(registers[0xb8 / 8] & 0xfff, 7);                   /* 256 entries, xAPIC */
    assert_int_equal(remapped_by->claim(77, (struct irq_source){ 0x0318, false }), 0);
    m = remapped_by->route(i);
    assert_int_equal(m.address, 0xfee00010 | 24 << 5);
    assert_int_equal(m.data, 0);
    assert_int_equal(entry[0], 3UL << 40 | 0x410001);
    assert_int_equal(entry[1], 1 << 18 | 0x0318);
    remapped_by->unroute(77);
    assert_int_equal(entry[0] & 1, 0);
    (void)remapped_by->route(i);
    assert_int_equal(entry[0], 3UL << 40 | 0x410001);
    remapped_by->release(77);
    assert_int_equal(entry[0] & 1, 0);
    assert_int_equal(remapped_by->claim(78, (struct irq_source){ 0x0318, true }), 0);
    assert_int_equal(entry[0] & 1, 0);
    i.irq = 78;
    (void)remapped_by->route(i);
    assert_int_equal(entry[1], 2 << 18 | 0x0303);
}

/* An IO-APIC's entry has the vector where the unit finds none, for the CPUs' EOIs. */
static void lines_have_entries_from_the_start(void **state)
{
    struct irq_route line = { .irq = 9, .apic_id = 3, .vector = 0x41, .line = true, .level = true };
    struct msi_message m;
    u64 *entry;

    (void)state;
    start_it(IOMMU_VTD);
    entry = (u64 *)at(registers[0xb8 / 8] & PAGE_MASK) + 2 * 9;
    m = remapped_by->route(line);
    assert_int_equal(m.address, 0xfee00010 | 9 << 5);
    assert_int_equal(m.data, 0x41);
    assert_int_equal(entry[0], 3UL << 40 | 0x410011);
    assert_int_equal(entry[1], 1 << 18 | 0xf0f8);
    assert_false(remapped_by->lines_need_eoi);
    start_it(IOMMU_AMD);
    m = remapped_by->route(line);
    assert_int_equal(m.address, 0xfee00000);
    assert_int_equal(m.data, 9);
    assert_true(sends(0xf0f8, 9).comes && sends(0xf0f8, 9).vector == 0x41);
    assert_true(remapped_by->lines_need_eoi);
}

#define CARD 0x0318u
#define OTHER 0x0320u
#define STRANGER 0x0328u

static u32 message_for(u32 irq, u32 apic_id, u8 vector)
{
    struct msi_message m = remapped_by->route((struct irq_route){ .irq = irq, .apic_id = apic_id, .vector = vector });

    assert_int_equal(m.address, 0xfee00000);
    return m.data;
}

static void claims(u32 irq, u16 id) { assert_int_equal(remapped_by->claim(irq, (struct irq_source){ id, false }), 0); }

static bool arrives(u16 id, u32 data, u32 apic_id, u8 vector)
{
    struct arrival a = sends(id, data);

    return a.comes && a.apic_id == apic_id && a.vector == vector;
}

/* How many of all messages that a function could send come through. */
static unsigned come_through(u16 id)
{
    unsigned n = 0;

    for (u32 data = 0; data < 0x800; data++)
        n += by_function(id, data).comes;
    return n;
}

/* wide: in x2APIC mode, with a unit that can. */
static void start_amd(bool wide)
{
    machine(IOMMU_AMD, "off");
    registers[0x30 / 8] = wide ? 1 << 7 | 1 << 2 : 0;
    x2apic = wide;
    options.on = true;
    iommu_init();
    iommu_start(may_write);
    assert_true(iommu_on && remapped_by);
}

static void a_functions_messages_are_its_own(void **state)
{
    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        u32 cpu = wide ? 0x1234567 : 3, first, second, others;

        start_amd(wide);
        assert_int_equal(come_through(CARD) + come_through(OTHER) + come_through(STRANGER) + come_through(0xf0f8), 0);
        claims(100, CARD);
        claims(101, CARD);
        claims(102, OTHER);
        assert_int_equal(come_through(CARD) + come_through(OTHER), 0);
        first = message_for(100, cpu, 0x41);
        second = message_for(101, cpu + 1, 0x42);
        others = message_for(102, cpu, 0x43);
        assert_true(arrives(CARD, first, cpu, 0x41) && arrives(CARD, second, cpu + 1, 0x42) && arrives(OTHER, others, cpu, 0x43));
        assert_false(sends(OTHER, second).comes || sends(STRANGER, first).comes || sends(0xf0f8, first).comes);
        assert_int_equal(come_through(CARD), 2);
        assert_int_equal(come_through(OTHER), 1);
        assert_int_equal(come_through(STRANGER) + come_through(0xf0f8), 0);
        remapped_by->unroute(100);
        assert_false(sends(CARD, first).comes);
        assert_true(arrives(CARD, second, cpu + 1, 0x42));
        assert_int_equal(message_for(100, cpu, 0x44), first);           /* what the device has is right still */
        assert_true(arrives(CARD, first, cpu, 0x44));
        assert_int_equal(message_for(100, cpu + 2, 0x45), first);       /* and when it goes to another CPU */
        assert_true(arrives(CARD, first, cpu + 2, 0x45));
        remapped_by->release(100);
        assert_int_equal(come_through(CARD), 1);
        claims(103, CARD);
        assert_int_equal(come_through(CARD), 1);
        assert_int_equal(message_for(103, cpu, 0x46), first);
    }
}

/* The numbers of sections 2.2.2.1 and 2.2.5. */
static void entries_of_interrupts_are_as_the_manual_says(void **state)
{
    for (unsigned wide = 0; wide < 2; wide++) {
        u64 word, *table;

        (void)state;
        start_amd(wide);
        assert_int_equal(entry_of_function(CARD)[2], 1);                /* valid, no table: aborted */
        claims(100, CARD);
        word = entry_of_function(CARD)[2];
        assert_int_equal(word & ~0xffffffffff000, 0x2000000000000013);  /* by a table of 512 */
        table = at(word & 0xffffffffff000);
        (void)message_for(100, wide ? 0x12345678 : 5, 0x41);
        assert_int_equal(table[0], wide ? 0x34567801 : 0x410501);
        assert_int_equal(table[1], wide ? 0x1200000000000041 : 0);
        assert_int_equal(registers[0x18 / 8] >> 17 & 1, wide);
        assert_int_equal(registers[0x18 / 8] >> 50 & 1, wide);
    }
}

/* Who moves keeps its interrupts, and nobody hears of the old owner's wrong ones. */
static void a_move_leaves_interrupts_alone(void **state)
{
    u32 data;

    (void)state;
    start_amd(false);
    assert_int_equal(iommu_space_make(NEW), 0);
    claims(100, CARD);
    data = message_for(100, 3, 0x41);
    assert_true(driver->silence(&units[0], CARD));
    assert_int_equal(entry_of_function(CARD)[2] >> 5 & 1, 1);
    assert_int_equal(iommu_move(CARD, NEW), 0);
    assert_int_equal(entry_of_function(CARD)[2] >> 5 & 1, 0);
    assert_true(arrives(CARD, data, 3, 0x41));
    assert_int_equal(come_through(CARD), 1);
}

/* A table is made with the first irq, and its failure leaves nothing. There are as many entries as messages have numbers for. */
static void a_function_without_room_has_no_irq(void **state)
{
    (void)state;
    start_amd(false);
    no_memory = true;
    assert_int_equal(remapped_by->claim(100, (struct irq_source){ CARD, false }), -ENOMEM);
    no_memory = false;
    assert_int_equal(entry_of_function(CARD)[2], 1);
    assert_null(slots[100].table);
    nr_irqs = 2000;
    start_amd(false);
    for (u32 irq = 100; irq < 612; irq++)
        claims(irq, CARD);
    assert_int_equal(remapped_by->claim(612, (struct irq_source){ CARD, false }), -ENOSPC);
    assert_null(slots[612].table);
    assert_int_equal(message_for(611, 3, 0x41), 511);
    claims(612, OTHER);
    remapped_by->release(200);
    claims(613, CARD);
    nr_irqs = 200;
}

/* Where the firmware says that the chipset sends them, with the IO-APIC's name; no function does. */
static void the_chipsets_nmis_come_through(void **state)
{
    (void)state;
    machine(IOMMU_AMD, "on");
    iommu_info.scopes[0].passes = 0xff;
    iommu_start(may_write);
    assert_int_equal(entry_of_function(0xf0f8)[2] >> 52, 0xa40);        /* by a table; LINT1, NMI */
    assert_true(sends(0xf0f8, 0x400).comes);
    assert_false(sends(0xf0f8, 0x500).comes || sends(0xf0f8, 0x700).comes || sends(CARD, 0x400).comes);
}

/* Requests that carry another's name go by the other's table, and so do those of an old bus. */
static void who_has_anothers_name_shares_its_table(void **state)
{
    u32 data;

    (void)state;
    machine(IOMMU_AMD, "on");
    iommu_info.scopes[iommu_info.nr_scopes++] =
        (struct iommu_scope){ .kind = IOMMU_FUNCTIONS, .first = CARD, .last = OTHER, .has_alias = true, .alias = 0x0008 };
    iommu_start(may_write);
    claims(100, CARD);
    claims(101, OTHER);
    assert_int_equal(message_for(100, 3, 0x41), 0);
    data = message_for(101, 3, 0x42);
    assert_true(arrives(0x0008, data, 3, 0x42));
    assert_int_equal(come_through(0x0008), 2);
    assert_int_equal(remapped_by->claim(102, (struct irq_source){ 0x0430, true }), 0);
    data = message_for(102, 3, 0x43);
    assert_true(arrives(0x0400, data, 3, 0x43));
}

/* What no unit is for cannot be remapped: it sends as without. */
static void who_is_behind_no_unit_names_a_cpu(void **state)
{
    (void)state;
    for (enum iommu_maker maker = IOMMU_VTD; maker <= IOMMU_AMD; maker++) {
        struct msi_message m;

        start_it(maker);
        assert_int_equal(remapped_by->claim(100, (struct irq_source){ 0x10000 | CARD, false }), 0);
        m = remapped_by->route((struct irq_route){ .irq = 100, .apic_id = 3, .vector = 0x41 });
        assert_int_equal(m.address, 0xfee03000);
        assert_int_equal(m.data, 0x41);
        remapped_by->unroute(100);
        remapped_by->release(100);
    }
}

/* The rest of the machine goes on: an interrupt goes astray, and the log says whose fault that is. */
static void a_unit_that_falls_silent_is_named(void **state)
{
    (void)state;
    start_amd(false);
    deaf = DEAF_QUEUE;
    claims(100, CARD);
    assert_true(logged("IOMMU: the unit at 0xfed90000 does not answer: its queue"));
    log_clear();
    (void)message_for(100, 3, 0x41);
    assert_true(logged("does not answer: its queue"));
}

/* Each reason has its line, and interrupts are as without. */
static void the_log_says_why_amds_interrupts_are_not_remapped(void **state)
{
    (void)state;
    machine(IOMMU_AMD, "no-intremap");
    iommu_start(may_write);
    assert_true(iommu_on && !remapped_by && logged("interrupts are not remapped: by the command line"));
    assert_int_equal(entry_of_function(CARD)[2], 0);
    for (unsigned i = 0; i < 3; i++) {                                  /* x2APIC takes both features */
        machine(IOMMU_AMD, "off");
        registers[0x30 / 8] = i == 1 ? 1 << 7 : i == 2 ? 1 << 2 : 0;
        x2apic = options.on = true;
        iommu_init();
        iommu_start(may_write);
        assert_true(iommu_on && !remapped_by && logged("interrupts are not remapped: it cannot do that in x2APIC mode"));
        assert_int_equal(registers[0x18 / 8] >> 17 & 1, 0);
    }
    machine(IOMMU_AMD, "on");
    old_ioapic = true;
    iommu_start(may_write);
    assert_true(iommu_on && !remapped_by && logged("too old to be told that an interrupt is over"));
    machine(IOMMU_AMD, "on");
    iommu_info.nr_scopes = 0;
    iommu_start(may_write);
    assert_true(iommu_on && !remapped_by && logged("which unit an IO-APIC is behind"));
}

/* Whatever it is that there is no memory for: nobody sends anew, and the unit is off. */
static void without_memory_for_interrupts_nothing_is_used(void **state)
{
    (void)state;
    for (enum iommu_maker maker = IOMMU_VTD; maker <= IOMMU_AMD; maker++) {
        unsigned n = 0;

        for (;; n++) {
            machine(maker, "on");
            pieces_left = n;
            iommu_start(may_write);
            pieces_left = ~0u;
            if (iommu_on)
                break;
            assert_false(iommu_wanted() || remapped_by || retargets);
            assert_int_equal(maker == IOMMU_VTD ? *word(0x1c) >> 31 : registers[0x18 / 8] & 1, 0);
        }
        assert_true(n >= 5);            /* slots, a table and its entries, what the unit has of its own */
    }
}

static void x2apic_needs_a_unit_that_can(void **state)
{
    (void)state;
    machine(IOMMU_VTD, "on");
    x2apic = true;
    iommu_start(may_write);
    assert_true(iommu_on && !remapped_by);
    machine(IOMMU_VTD, "off");
    registers[0x10 / 8] |= 0x10;
    x2apic = options.on = true;
    iommu_init();
    iommu_start(may_write);
    assert_true(remapped_by);
    assert_int_equal(registers[0xb8 / 8] & 0xfff, 0x807);
}

/* --- Faults --- */

static void a_fault(u16 id)
{
    *word(0x34) = 2 | 1 << 8;                                           /* pending, the second record is first */
    registers[0x230 / 8] = 0x12345000;
    registers[0x238 / 8] = 1UL << 63 | 5UL << 32 | id;
    driver->poll(&units[0]);
}

static void faults_name_function_address_and_reason(void **state)
{
    (void)state;
    start_it(IOMMU_VTD);
    a_fault(0x0219);
    assert_true(logged("IOMMU: 0000:02:03.1 of domain 0: write of 0x12345000 refused: it may not be written"));
    assert_int_equal(registers[0x238 / 8] >> 63, 0);
    start_it(IOMMU_AMD);
    units[0].log[0] = 2UL << 60 | 1UL << 53 | 0x0219;
    units[0].log[1] = 0x12345678;
    registers[0x2018 / 8] = 16;
    driver->poll(&units[0]);
    assert_true(logged("IOMMU: 0000:02:03.1 of domain 0: write of 0x12345678 refused: it may not be accessed"));
    assert_int_equal(registers[0x2010 / 8], 16);
}

/* The three ways in which AMD's units tell of them. */
static void faults_of_interrupts_are_told_apart(void **state)
{
    static const struct { u64 event; const char *text; } cases[] = {
        { 2UL << 60 | 1UL << 51, "interrupt of 0xfee00000 refused: there is no such interrupt" },
        { 2UL << 60 | 1UL << 52 | 1UL << 51, "interrupt of 0xfee00000 refused: it may not be sent like this" },
        { 8UL << 60 | 5UL << 57, "interrupt of 0xfee00000 refused: it has none" },
        { 8UL << 60 | 3UL << 57, "request of 0xfee00000 refused: there are no such requests" },
        { 1UL << 60 | 1UL << 51, "interrupt of 0xfee00000 refused: its entry makes no sense" } };

    (void)state;
    start_it(IOMMU_AMD);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        log_clear();
        units[0].log[2 * i] = cases[i].event | 0x0219;
        units[0].log[2 * i + 1] = 0xfee00000;
        registers[0x2018 / 8] = 16 * (i + 1);
        driver->poll(&units[0]);
        assert_true(logged("IOMMU: 0000:02:03.1 of domain 0: "));
        assert_true(logged(cases[i].text));
    }
}

static void faults_name_the_owner(void **state)
{
    (void)state;
    start_it(IOMMU_VTD);
    device = (struct pci_dev){ .sbdf = 0x0219, .owner = 7 };
    a_fault(0x0219);
    assert_true(logged("0000:02:03.1 of domain 7: write"));
    device.owner = DOMID_IO;
    a_fault(0x0219);
    assert_true(logged("0000:02:03.1 of nobody: write"));
    device = (struct pci_dev){ 0 };
}

static void a_storm_is_silenced(void **state)
{
    u64 *root;

    (void)state;
    start_it(IOMMU_VTD);
    for (unsigned i = 0; i < STORM - 1; i++) {
        a_fault(0x0219);
        a_fault((u16)(0x300 + i));
    }
    assert_false(logged("no more is said"));
    a_fault(0x0219);
    assert_true(logged("IOMMU: 0000:02:03.1: no more is said of what it does wrong"));
    log_clear();
    lines_left = LINES;
    a_fault(0x0219);            /* the unit tells of interrupts all the same */
    time_now += 2 * STORM_TIME;
    a_fault(0x0219);
    assert_string_equal(log_text, "");
    root = at(registers[0x20 / 8]);
    assert_int_equal(*(u64 *)at((root[4] & PAGE_MASK) + 16 * 0x19) & 3, 3);
    assert_int_equal(*(u64 *)at((root[4] & PAGE_MASK) + 16 * 0x18) & 3, 1);
    assert_int_equal(*(u64 *)at((root[6] & PAGE_MASK) + 16 * 0x19) & 3, 1);
}

static unsigned lines_with(const char *text)
{
    unsigned n = 0;

    for (const char *p = log_text; (p = strstr(p, text)) != NULL; p++)
        n++;
    return n;
}

/* However many there are: each has a count of its own. */
static void functions_that_do_wrong_in_turn_are_silenced(void **state)
{
    (void)state;
    start_it(IOMMU_VTD);
    for (unsigned i = 0; i < STORM; i++)
        for (u16 id = 0x300; id < 0x309; id++) {
            lines_left = LINES;
            a_fault(id);
        }
    assert_int_equal(lines_with("no more is said of what it does wrong"), 9);
    log_clear();
    for (u16 id = 0x300; id < 0x309; id++)
        a_fault(id);
    assert_string_equal(log_text, "");
}

/* The new owner hears of it anew; what was little and long ago is not counted. */
static void a_function_that_moves_is_heard_again(void **state)
{
    (void)state;
    start_it(IOMMU_VTD);
    for (unsigned i = 0; i < STORM; i++)
        a_fault(FUNCTION);
    assert_true(logged("no more is said"));
    assert_int_equal(iommu_move(FUNCTION, SPACE_NOBODY), 0);
    for (unsigned i = 0; i < STORM; i++) {
        if (i == STORM - 1)
            time_now += 2 * STORM_TIME;
        log_clear();
        lines_left = LINES;
        a_fault(FUNCTION);
        assert_true(logged("0000:02:03.1 of domain 0: write"));
    }
    assert_false(logged("no more is said"));
}

/* Events that are no faults, which devices bring about too, by requests that the unit does not know: they have at most as many lines. */
static void other_events_do_not_fill_the_log(void **state)
{
    (void)state;
    start_it(IOMMU_AMD);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 100; i++)
            units[0].log[2 * i] = 9UL << 60 | i;
        registers[0x2010 / 8] = 0;
        registers[0x2018 / 8] = 100 * 16;
        driver->poll(&units[0]);
    }
    assert_int_equal(lines_with("reports event 9"), LINES - LAST_LINES);
}

/* Functions by the thousand fill neither the log nor the list: once there are all lines, and then one for so many looks. */
static void many_functions_do_not_fill_the_log(void **state)
{
    unsigned more = 0;

    (void)state;
    start_it(IOMMU_VTD);
    for (unsigned i = 0; i < 1000; i++)
        a_fault((u16)i);
    assert_int_equal(lines_with("refused"), LINES - LAST_LINES);
    for (unsigned look = 0; look < 10 * LOOKS_A_LINE; look++) {
        log_clear();
        for (unsigned i = 0; i < 1000; i++)
            a_fault((u16)(1000 * (look % 20 + 1) + i));
        poll(&(struct timer){ 0 });
        more += lines_with("\n");
    }
    assert_in_range(more, 9, 10 + LAST_LINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_on_without_a_word),
        cmocka_unit_test(vtd_is_told_in_this_order), cmocka_unit_test(its_registers_are_as_many_as_it_says),
        cmocka_unit_test(amd_has_an_entry_for_each_function),
        cmocka_unit_test(passes_on_where_told), cmocka_unit_test(is_off_where_told),
        cmocka_unit_test(a_unit_that_does_not_answer_is_given_up), cmocka_unit_test(a_unit_that_cannot_is_not_used),
        cmocka_unit_test(a_function_moves_from_one_space_to_another), cmocka_unit_test(nobodys_space_reaches_nothing),
        cmocka_unit_test(without_memory_a_function_stays_where_it_is), cmocka_unit_test(spaces_are_apart_and_end),
        cmocka_unit_test(the_end_comes_on_the_largest_machines),
        cmocka_unit_test(follows_what_it_is_told_under_the_lock),
        cmocka_unit_test(many_frames_are_forgotten_with_one_command), cmocka_unit_test(some_functions_cannot_be_moved),
        cmocka_unit_test(units_say_how_many_domains_they_tell_apart), cmocka_unit_test(faults_name_the_owner),
        cmocka_unit_test(regions_that_devices_may_not_have_are_left_out), cmocka_unit_test(flushes_after_the_change_and_before_freeing),
        cmocka_unit_test(a_frame_is_taken_away_without_memory),
        cmocka_unit_test(interrupts_are_one_functions), cmocka_unit_test(x2apic_needs_a_unit_that_can),
        cmocka_unit_test(lines_have_entries_from_the_start), cmocka_unit_test(a_functions_messages_are_its_own),
        cmocka_unit_test(entries_of_interrupts_are_as_the_manual_says), cmocka_unit_test(a_move_leaves_interrupts_alone),
        cmocka_unit_test(a_function_without_room_has_no_irq), cmocka_unit_test(the_chipsets_nmis_come_through),
        cmocka_unit_test(who_has_anothers_name_shares_its_table), cmocka_unit_test(who_is_behind_no_unit_names_a_cpu),
        cmocka_unit_test(a_unit_that_falls_silent_is_named),
        cmocka_unit_test(the_log_says_why_amds_interrupts_are_not_remapped),
        cmocka_unit_test(without_memory_for_interrupts_nothing_is_used), cmocka_unit_test(faults_of_interrupts_are_told_apart),
        cmocka_unit_test(domus_devices_look_into_caches),
        cmocka_unit_test(faults_name_function_address_and_reason), cmocka_unit_test(a_storm_is_silenced),
        cmocka_unit_test(functions_that_do_wrong_in_turn_are_silenced), cmocka_unit_test(a_function_that_moves_is_heard_again),
        cmocka_unit_test(other_events_do_not_fill_the_log),
        cmocka_unit_test(many_functions_do_not_fill_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
