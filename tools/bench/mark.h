/* A mark: an instruction that does nothing, for tools/bench/count.c, which knows it. Its number is a part of it, and constant. */
#ifndef MARK_H
#define MARK_H

#define MARK 0x50560000u
#define MARK_NOP(n) __asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00; .long %c0" : : "i"(MARK + (n)))

#endif
