/* The code at boot becomes what the CPU needs: thunks of indirect calls, and the places that asm/sites.h tells of. */
#include <asm/mm.h>
#include <asm/sites.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <pvisor/lib.h>

extern char indirect_thunks[], indirect_thunks_end[];
#define THUNK_SIZE 32

/* One register's thunk becomes [lfence;] jmp *reg. The thunks stand in the order of the registers' numbers. */
static void simple_thunk(u8 *to, unsigned reg, bool lfence)
{
    static const u8 barrier[3] = { 0x0f, 0xae, 0xe8 };

    if (lfence) {
        memcpy(to, barrier, sizeof(barrier));
        to += sizeof(barrier);
    }
    if (reg >= 8)
        *to++ = 0x41;
    *to++ = 0xff;
    *to++ = (u8)(0xe0 | (reg & 7));
    *to = 0xcc;
}

/* Our code is mapped without write permission; the direct map has it writable. */
static u8 *writable(const void *code) { return maddr_to_virt(virt_to_maddr(code)); }

static void patch_thunks(bool lfence)
{
    for (unsigned reg = 0; reg < (unsigned)(indirect_thunks_end - indirect_thunks) / THUNK_SIZE; reg++)
        simple_thunk(writable(indirect_thunks + reg * THUNK_SIZE), reg, lfence);
}

/* at: relative to itself. */
extern const struct site { s32 at; u32 kind; } __sites[], __sites_end[];
extern const char load_guest_root[], load_full_root[], reload_root[];

#define WHOLE_SITE 7
#define IN_FRONT   3

static void patch_call(u8 *to, const char *site, const char *target)
{
    u8 code[WHOLE_SITE] = { 0xe8, 0, 0, 0, 0, 0x66, 0x90 };

    *(s32 *)(code + 1) = (s32)(target - (site + 5));
    memcpy(to, code, WHOLE_SITE);
}

/* Of seven bytes, when there is no isolation. Where nothing is to be done they are one instruction, too. */
static void patch_whole(u8 *to, u32 kind, bool verw, bool smap)
{
    static const u8 nop[WHOLE_SITE] = { 0x0f, 0x1f, 0x80, 0, 0, 0, 0 };
    static const u8 clac_and_nop[WHOLE_SITE] = { 0x0f, 0x01, 0xca, 0x0f, 0x1f, 0x40, 0 };

    if (smap && kind == SITE_ARRIVE)
        memcpy(to, clac_and_nop, WHOLE_SITE);
    else if (!verw)
        memcpy(to, nop, WHOLE_SITE);
}

static void patch_in_front(u8 *to, u32 kind)
{
    static const u8 stac[IN_FRONT] = { 0x0f, 0x01, 0xcb }, clac[IN_FRONT] = { 0x0f, 0x01, 0xca };

    memcpy(to, kind == SITE_OPEN ? stac : clac, IN_FRONT);
}

static void patch_site(const char *site, u32 kind, const struct spec *s, bool smap)
{
    static const char *const target[] = {
        [SITE_LEAVE] = load_guest_root, [SITE_ARRIVE] = load_full_root, [SITE_RESUME] = reload_root,
    };

    if (kind >= SITE_OPEN) {
        if (smap)
            patch_in_front(writable(site), kind);
    } else if ((s->isolate_dom0 || s->isolate_domus) && kind != SITE_CLEAR) {
        patch_call(writable(site), site, target[kind]);
    } else {
        patch_whole(writable(site), kind, s->verw, smap);
    }
}

void spec_patch(const struct spec *s, bool smap)
{
    if (s->thunk != THUNK_RETPOLINE)
        patch_thunks(s->thunk == THUNK_LFENCE);
    for (const struct site *at = __sites; at < __sites_end; at++)
        patch_site((const char *)&at->at + at->at, at->kind, s, smap);
    (void)cpuid(0, 0);      /* serialises: no old instruction is still in the pipeline (SDM vol. 3, self-modifying code) */
}
