/* The code at boot becomes what the CPU needs: thunks of indirect calls, and the places in arch/x86/entry that defences pass through. */
#include <asm/mm.h>
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
extern const struct entry_site { s32 at; u32 kind; } __entry_sites[], __entry_sites_end[];
extern const char load_guest_root[], load_full_root[], reload_root[];

#define SITE_BYTES 7

static void patch_nop(const char *site)
{
    static const u8 nop[SITE_BYTES] = { 0x0f, 0x1f, 0x80, 0, 0, 0, 0 };

    memcpy(writable(site), nop, SITE_BYTES);
}

static void patch_call(const char *site, const char *target)
{
    u8 code[SITE_BYTES] = { 0xe8, 0, 0, 0, 0, 0x66, 0x90 };

    *(s32 *)(code + 1) = (s32)(target - (site + 5));
    memcpy(writable(site), code, SITE_BYTES);
}

static void patch_entry(bool verw, bool isolate)
{
    static const char *const target[] = {
        [SITE_LEAVE] = load_guest_root, [SITE_ARRIVE] = load_full_root, [SITE_RESUME] = reload_root,
    };

    for (const struct entry_site *s = __entry_sites; s < __entry_sites_end; s++) {
        const char *site = (const char *)&s->at + s->at;

        if (isolate && s->kind != SITE_CLEAR)
            patch_call(site, target[s->kind]);
        else if (!verw)
            patch_nop(site);
    }
}

void spec_patch(const struct spec *s)
{
    if (s->thunk != THUNK_RETPOLINE)
        patch_thunks(s->thunk == THUNK_LFENCE);
    patch_entry(s->verw, s->isolate_dom0 || s->isolate_domus);
    (void)cpuid(0, 0);      /* serialises: no old instruction is still in the pipeline (SDM vol. 3, self-modifying code) */
}
