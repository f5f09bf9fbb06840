/*
 * Places in the code that are patched at boot, each with its kind in a table (cpu/spec_patch.c): the ways in and out in arch/x86/entry,
 * where defences pass through, and where guests' memory is opened and closed (asm/guest_mem.h).
 */
#ifndef ASM_SITES_H
#define ASM_SITES_H

enum {
    /* Seven bytes, an instruction of their own. */
    SITE_LEAVE,     /* the ways out to a 64-bit guest */
    SITE_LEAVE_ANY, /* the ways out to either, or to a 32-bit one */
    SITE_ARRIVE,    /* the ways in */
    SITE_RESUME,    /* the way back into our own code */
    SITE_CLEAR,     /* VERW alone */
    /* Five bytes, at the end of a way. */
    SITE_INT82,     /* a jump to int82_entry */
    SITE_ARRIVED,   /* of smap_arrive */
    /* Three bytes in front of an instruction. */
    SITE_OPEN,      /* STAC, where there is SMAP */
    SITE_CLOSE,     /* CLAC */
    /* Three bytes, an instruction of their own. */
    SITE_LOCK,      /* LFENCE, behind a lock that has been taken */
};

/*
 * Prefixes of whatever instruction comes next, until they are patched: DS, which means nothing in 64-bit mode. So a CPU without SMAP
 * executes nothing here. A fault of that instruction is one at its first prefix: extable_find().
 */
#define SITE_PREFIX 0x3e
#define SITE_IN_FRONT(kind) \
    ".pushsection .sites, \"a\"\n.balign 4\n.long 771f - .\n.long " kind "\n.popsection\n771: .byte 0x3e, 0x3e, 0x3e\n"

/* A NOP until it is patched. */
#define SITE_ALONE(kind) \
    ".pushsection .sites, \"a\"\n.balign 4\n.long 772f - .\n.long " kind "\n.popsection\n772: .byte 0x0f, 0x1f, 0x00\n"

#endif
