/* Multiboot 1 (specification 0.6.96) and 2 (2.0): command line, modules, memory maps, what there is of ACPI and UEFI. */
#include <asm/boot.h>
#include <asm/mm.h>
#include <pvisor/efi.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

struct boot_info boot_info __initdata;

#define MB1_MAGIC 0x2badb002
#define MB2_MAGIC 0x36d76289
#define MB2_MIN_ENTRY 24u      /* of the memory map */

struct mb1_info {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
    u32 drives[2], config, loader_name, apm, vbe[4];
    u8 framebuffer[28];
} __attribute__((packed));
#define MB1_CMDLINE (1u << 2)
#define MB1_MODS    (1u << 3)
#define MB1_MMAP    (1u << 6)
#define MB1_LOADER  (1u << 9)
#define MB1_FRAMEBUFFER (1u << 12)
struct mb1_mod { u32 start, end, cmdline, reserved; };

struct mb2_tag { u32 type, size; };
enum { MB2_END = 0, MB2_CMDLINE = 1, MB2_LOADER = 2, MB2_MODULE = 3, MB2_MMAP = 6, MB2_FRAMEBUFFER = 8, MB2_EFI32 = 11,
       MB2_EFI64 = 12, MB2_RSDP1 = 14,
       MB2_RSDP2 = 15, MB2_EFI_MMAP = 17, MB2_NR };

static __init void *low(u32 a) { return maddr_to_virt(maddr(a)); }

/* GRUB 2 leaves the file's name out of a command line; others put it first. */
static __init const char *skip_name(const char *s)
{
    if (!strncmp(boot_info.loader, "GRUB 2", 6))
        return s;
    while (*s && *s != ' ')
        s++;
    while (*s == ' ')
        s++;
    return s;
}

static __init void read_map(const char *at, u32 size, u32 stride)
{
    e820_read(&(struct e820_source){ at, at + size, stride });
}

/* Text of the loader's, which is longer than anybody expects only by mistake. */
static __init void take_text(char *to, size_t size, const char *from, const char *what)
{
    if (strlcpy(to, from, size) >= size)
        printk(LOG_WARNING "%s is longer than %lu bytes: the rest is left out\n", what, size - 1);
}

/*
 * The same in both specifications, but for two bytes before the colours: address (8 bytes), bytes of a line, width, height (4 each),
 * bits of a pixel, type (1 each). Only direct colours are of use.
 */
#define FRAMEBUFFER_FIXED 22
#define FRAMEBUFFER_RGB 1
static __init void take_framebuffer(const char *from, unsigned colours)
{
    struct framebuffer *fb = &boot_info.framebuffer;

    if (from[21] != FRAMEBUFFER_RGB)
        return;
    memcpy(&fb->address, from, 8);
    memcpy(&fb->pitch, from + 8, 4);
    memcpy(&fb->width, from + 12, 4);
    memcpy(&fb->height, from + 16, 4);
    fb->bits = (u8)from[20];
    memcpy(&fb->red, from + colours, 6);
}

static __init void add_module(u32 start, u32 end, const char *cmdline)
{
    struct boot_module *m = &boot_info.module[boot_info.nr_modules];

    if (end < start || table_full("modules of the boot loader", boot_info.nr_modules, MAX_BOOT_MODULES))
        return;
    boot_info.nr_modules++;
    m->start = maddr(start);
    m->size = end - start;
    take_text(m->cmdline, sizeof(m->cmdline), skip_name(cmdline), "A module's command line");
}

static __init void parse_mb1(const struct mb1_info *i)
{
    if (i->flags & MB1_LOADER)
        strlcpy(boot_info.loader, low(i->loader_name), sizeof(boot_info.loader));
    if (i->flags & MB1_CMDLINE)
        take_text(boot_info.cmdline, sizeof(boot_info.cmdline), skip_name(low(i->cmdline)), "The command line");
    if (i->flags & MB1_MODS) {
        const struct mb1_mod *m = low(i->mods_addr);
        for (u32 n = 0; n < i->mods_count; n++)
            add_module(m[n].start, m[n].end, m[n].cmdline ? low(m[n].cmdline) : "");
    }
    if (i->flags & MB1_MMAP)
        read_map(low(i->mmap_addr), i->mmap_length, 0);
    if (i->flags & MB1_FRAMEBUFFER)
        take_framebuffer((const char *)i->framebuffer, FRAMEBUFFER_FIXED);
}

/* Its fields before a text, which is one byte at least, or a map. */
static __init u32 least_size(u32 type)
{
    static const u8 least[MB2_NR] = { [MB2_MODULE] = 9, [MB2_MMAP] = 8, [MB2_FRAMEBUFFER] = FRAMEBUFFER_FIXED + 8, [MB2_EFI64] = 8,
                                      [MB2_EFI_MMAP] = 8 };

    return sizeof(struct mb2_tag) + max(type < MB2_NR ? least[type] : 0, 1);
}

/* What we are told lies in memory that will be somebody's. */
static __init void take_rsdp(const void *from, u32 size)
{
    memcpy(boot_info.rsdp, from, min(size, (u32)BOOT_RSDP_SIZE));
}

static __init void parse_mb2_tag(const struct mb2_tag *t)
{
    const char *body = (const char *)(t + 1);

    if (t->size < least_size(t->type))
        return;
    switch (t->type) {
    case MB2_CMDLINE:
        take_text(boot_info.cmdline, sizeof(boot_info.cmdline), body, "The command line");
        break;
    case MB2_LOADER:
        strlcpy(boot_info.loader, body, sizeof(boot_info.loader));
        break;
    case MB2_MODULE:
        add_module(((const u32 *)body)[0], ((const u32 *)body)[1], body + 8);
        break;
    case MB2_MMAP:
        read_map(body + 8, t->size - 16, max(((const u32 *)body)[0], MB2_MIN_ENTRY));
        break;
    case MB2_FRAMEBUFFER:
        take_framebuffer(body, FRAMEBUFFER_FIXED + 2);
        break;
    case MB2_EFI32:
        printk(LOG_WARNING "UEFI: this firmware is a 32-bit one, whose services are not used\n");
        break;
    case MB2_EFI64:
        memcpy(&boot_info.efi_system_table, body, 8);
        break;
    case MB2_EFI_MMAP:
        efi_read_map(body + 8, t->size - 16, ((const u32 *)body)[0]);
        break;
    case MB2_RSDP1:
        if (!boot_info.rsdp[0])
            take_rsdp(body, t->size - 8);
        break;
    case MB2_RSDP2:
        take_rsdp(body, t->size - 8);
        break;
    }
}

static __init void parse_mb2(const u32 *info)
{
    const char *p = (const char *)(info + 2), *end = (const char *)info + info[0];

    /* The loader's name decides how module lines are read, so it goes first. */
    for (int pass = 0; pass < 2; pass++) {
        for (const char *q = p; q + 8 <= end;) {
            const struct mb2_tag *t = (const struct mb2_tag *)q;
            if (t->type == MB2_END || t->size < 8 || t->size > end - q)
                break;
            if ((t->type == MB2_LOADER) == !pass)
                parse_mb2_tag(t);
            q += ROUND_UP((u64)t->size, 8);
        }
    }
}

__init bool multiboot_parse(u32 magic, u32 info)
{
    if (magic == MB1_MAGIC)
        parse_mb1(low(info));
    else if (magic == MB2_MAGIC)
        parse_mb2(low(info));
    return magic == MB1_MAGIC || magic == MB2_MAGIC;
}
