/* Multiboot 1 (specification 0.6.96) and 2 (2.0): command line, modules, memory map. */
#include <asm/boot.h>
#include <asm/mm.h>
#include <pvisor/lib.h>

struct boot_info boot_info __initdata;
struct e820_entry host_e820[E820_MAX];
unsigned host_e820_nr;

#define MB1_MAGIC 0x2badb002
#define MB2_MAGIC 0x36d76289

struct mb1_info {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
    u32 drives[2], config, loader_name;
};
#define MB1_CMDLINE (1u << 2)
#define MB1_MODS    (1u << 3)
#define MB1_MMAP    (1u << 6)
#define MB1_LOADER  (1u << 9)
struct mb1_mod { u32 start, end, cmdline, reserved; };
struct __attribute__((packed)) mb_mmap { u64 start, size; u32 type; };

struct mb2_tag { u32 type, size; };
enum { MB2_END = 0, MB2_CMDLINE = 1, MB2_LOADER = 2, MB2_MODULE = 3, MB2_MMAP = 6, MB2_RSDP1 = 14, MB2_RSDP2 = 15 };

static __init void *low(u32 a) { return maddr_to_virt(maddr(a)); }

static __init void add_memory(const struct mb_mmap *m)
{
    if (host_e820_nr < E820_MAX && m->size)
        host_e820[host_e820_nr++] = (struct e820_entry){ m->start, m->size, m->type };
}

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

static __init void add_module(u32 start, u32 end, const char *cmdline)
{
    struct boot_module *m = &boot_info.module[boot_info.nr_modules];

    if (boot_info.nr_modules == MAX_BOOT_MODULES || end < start)
        return;
    boot_info.nr_modules++;
    m->start = maddr(start);
    m->size = end - start;
    strlcpy(m->cmdline, skip_name(cmdline), sizeof(m->cmdline));
}

static __init void parse_mb1(const struct mb1_info *i)
{
    if (i->flags & MB1_LOADER)
        strlcpy(boot_info.loader, low(i->loader_name), sizeof(boot_info.loader));
    if (i->flags & MB1_CMDLINE)
        strlcpy(boot_info.cmdline, skip_name(low(i->cmdline)), sizeof(boot_info.cmdline));
    if (i->flags & MB1_MODS) {
        const struct mb1_mod *m = low(i->mods_addr);
        for (u32 n = 0; n < i->mods_count; n++)
            add_module(m[n].start, m[n].end, m[n].cmdline ? low(m[n].cmdline) : "");
    }
    if (i->flags & MB1_MMAP) {
        for (u32 off = 0; off < i->mmap_length;) {
            const u32 *size = low(i->mmap_addr + off);
            add_memory((const struct mb_mmap *)(size + 1));
            off += *size + 4;
        }
    }
}

static __init void parse_mb2_tag(const struct mb2_tag *t)
{
    const char *body = (const char *)(t + 1);

    switch (t->type) {
    case MB2_CMDLINE:
        strlcpy(boot_info.cmdline, body, sizeof(boot_info.cmdline));
        break;
    case MB2_LOADER:
        strlcpy(boot_info.loader, body, sizeof(boot_info.loader));
        break;
    case MB2_MODULE:
        add_module(((const u32 *)body)[0], ((const u32 *)body)[1], body + 8);
        break;
    case MB2_MMAP: {
        u32 entry = ((const u32 *)body)[0];
        for (u32 off = 16; entry >= sizeof(struct mb_mmap) && off + entry <= t->size; off += entry)
            add_memory((const struct mb_mmap *)((const char *)t + off));
        break;
    }
    case MB2_RSDP1:
        if (boot_info.rsdp.v)
            break;
        /* fall through */
    case MB2_RSDP2:
        boot_info.rsdp = virt_to_maddr(body);
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
            if (t->type == MB2_END || t->size < 8)
                break;
            if ((t->type == MB2_LOADER) == !pass)
                parse_mb2_tag(t);
            q += ROUND_UP(t->size, 8);
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
