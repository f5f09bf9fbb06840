/* The few string functions that compilers and tests want. */
#ifndef GUEST_STRING_H
#define GUEST_STRING_H

#include <pvisor/types.h>

void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strncmp(const char *a, const char *b, size_t n);
const char *strstr(const char *hay, const char *needle);
u64 parse_number(const char *s);   /* decimal, up to the first other character */

#endif
