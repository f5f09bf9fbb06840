/* A grid of characters: what vga.c draws its text on. */
#ifndef DRIVERS_CHAR_SCREEN_H
#define DRIVERS_CHAR_SCREEN_H

#include <pvisor/vga.h>

struct screen {
    unsigned columns, rows;
    bool shared;                            /* dom0 draws on it, too: what stands there is not known */
    void (*put)(unsigned column, unsigned row, u8 c);
    unsigned (*scroll)(void);               /* makes room below the last row; how many lines that went up */
    void (*cursor)(unsigned column, unsigned row);      /* NULL: there is none to see */
};

/* NULL: not a mode that we can draw in. Its cells are blank. */
struct screen *framebuffer_screen(const struct framebuffer *fb);

#endif
