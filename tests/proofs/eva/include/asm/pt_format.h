/*
 * asm/pt_format.h, but for the one thing that is taken for granted of what guests' tables say: an entry of which the code says that it
 * holds a reference names a frame of RAM. held_mfn() is that frame, or, of any other entry, any frame: nothing is concluded from it.
 */
#include_next <asm/pt_format.h>
#ifndef EVA_PT_FORMAT_H
#define EVA_PT_FORMAT_H
mfn_t held_mfn(u64 e);
#define pte_held_mfn held_mfn
#endif
