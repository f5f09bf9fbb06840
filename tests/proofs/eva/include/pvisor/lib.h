/* pvisor/lib.h, with Frama-C's own memcpy() and the like in the place of the compiler's. */
#include_next <pvisor/lib.h>
#ifndef EVA_LIB_H
#define EVA_LIB_H
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
#include <string.h>
#endif
