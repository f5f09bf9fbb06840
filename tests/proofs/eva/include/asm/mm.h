/* asm/mm.h, but that whether a frame is RAM is asked in line, so that Eva knows of the very number asked for that it is bounded. */
#include_next <asm/mm.h>
#ifndef EVA_MM_H
#define EVA_MM_H
bool any_ram(void);
#define mfn_valid(m) ((m).v < nr_frames && any_ram())
#endif
