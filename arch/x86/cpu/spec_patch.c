/* The code at boot becomes what the CPU needs: thunks of indirect calls, and the places that asm/sites.h tells of. */
#include <asm/closed.h>
#include <asm/mm.h>
#include <asm/sites.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <pvisor/lib.h>

extern char indirect_thunks[], indirect_thunks_end[];
#define THUNK_SIZE 32

static const u8 lfence[] = { 0x0f, 0xae, 0xe8 };

/* One register's thunk becomes [lfence;] jmp *reg. The thunks stand in the order of the registers' numbers. */
static void simple_thunk(u8 *to, unsigned reg, bool fenced)
{
    if (fenced) {
        memcpy(to, lfence, sizeof(lfence));
        to += sizeof(lfence);
    }
    if (reg >= 8)
        *to++ = 0x41;
    *to++ = 0xff;
    *to++ = (u8)(0xe0 | (reg & 7));
    *to = 0xcc;
}

static void patch_thunks(bool fenced)
{
    for (unsigned reg = 0; reg < (unsigned)(indirect_thunks_end - indirect_thunks) / THUNK_SIZE; reg++)
        simple_thunk(image_for_writing(indirect_thunks + reg * THUNK_SIZE), reg, fenced);
}

/* at: relative to itself. */
extern const struct site { s32 at; u32 kind; } __sites[], __sites_end[];
extern const char load_guest_root[], load_full_root[], reload_root[], smap_arrive[], smap_leave[], smap_int82_entry[];
extern const char closed_arrive[], closed_leave[], closed_int82_entry[];

#define WHOLE_SITE 7

/* Seven bytes that call target. */
static void patch_call(const char *site, const char *target)
{
    u8 code[WHOLE_SITE] = { 0xe8, 0, 0, 0, 0, 0x66, 0x90 };

    *(s32 *)(code + 1) = (s32)(target - (site + 5));
    memcpy(image_for_writing(site), code, WHOLE_SITE);
}

static void patch_nop(const char *site)
{
    static const u8 nop[WHOLE_SITE] = { 0x0f, 0x1f, 0x80, 0, 0, 0, 0 };

    memcpy(image_for_writing(site), nop, WHOLE_SITE);
}

static void patch_jump(const char *site, const char *target)
{
    *(u8 *)image_for_writing(site) = 0xe9;
    *(s32 *)((u8 *)image_for_writing(site) + 1) = (s32)(target - (site + 5));
}

/* What is there for SMAP's sake alone, and can stay as it was built without. */
static void patch_for_smap(const char *site, u32 kind, bool isolate)
{
    static const u8 stac[] = { 0x0f, 0x01, 0xcb }, clac[] = { 0x0f, 0x01, 0xca };

    if (kind >= SITE_OPEN)
        memcpy(image_for_writing(site), kind == SITE_OPEN ? stac : clac, sizeof(stac));
    else if (kind == SITE_INT82)
        patch_jump(site, smap_int82_entry);
    else if (isolate)
        patch_jump(site, load_full_root);
}

/* What a place calls; NULL: nothing. */
static const char *called_at(u32 kind, bool isolate, bool smap)
{
    static const char *const for_closed_roots[SITE_INT82] = {
        [SITE_LEAVE] = closed_leave, [SITE_LEAVE_ANY] = closed_leave, [SITE_ARRIVE] = closed_arrive,
    };
    static const char *const for_smap[SITE_INT82] = { [SITE_LEAVE_ANY] = smap_leave, [SITE_ARRIVE] = smap_arrive };
    static const char *const for_isolation[SITE_INT82] = {
        [SITE_LEAVE] = load_guest_root, [SITE_LEAVE_ANY] = load_guest_root, [SITE_ARRIVE] = load_full_root, [SITE_RESUME] = reload_root,
    };

    if (CLOSED_ROOTS)
        return for_closed_roots[kind];
    return smap && for_smap[kind] ? for_smap[kind] : isolate ? for_isolation[kind] : NULL;
}

static void patch_site(const char *site, u32 kind, const struct spec *s, bool smap)
{
    bool isolate = s->isolate_dom0 || s->isolate_domus;
    const char *target = kind < SITE_INT82 ? called_at(kind, isolate, smap) : NULL;

    if (kind == SITE_LOCK && !s->lock)
        return;
    if (kind == SITE_LOCK)
        memcpy(image_for_writing(site), lfence, sizeof(lfence));
    else if (target)
        patch_call(site, target);
    else if (kind < SITE_INT82 && !s->verw)
        patch_nop(site);
    else if (kind >= SITE_INT82 && smap)
        patch_for_smap(site, kind, isolate);
    else if (CLOSED_ROOTS && kind == SITE_INT82)
        patch_jump(site, closed_int82_entry);
}

void spec_patch(const struct spec *s, bool smap)
{
    if (s->thunk != THUNK_RETPOLINE)
        patch_thunks(s->thunk == THUNK_LFENCE);
    for (const struct site *at = __sites; at < __sites_end; at++)
        patch_site((const char *)&at->at + at->at, at->kind, s, smap);
    (void)cpuid(0, 0);      /* serialises: no old instruction is still in the pipeline (SDM vol. 3, self-modifying code) */
}
