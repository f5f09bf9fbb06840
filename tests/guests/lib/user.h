/* User mode: a code page, a data page and a stack, and tables for them. */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include "traps.h"

#define USER_CODE  0 /* user_page() numbers */
#define USER_STACK 1
#define USER_DATA  2

/* Maps the pages; in a 64-bit kernel also makes and installs the user's own top level. Once, at first use. */
void user_init(void);
/* Makes the user's top level, in a 64-bit kernel, the current one. */
void user_install(void);
/* The kernel's view of the data page. */
extern word *user_data;
/* Runs n bytes of code, with ud2 behind them, in user mode with these flags set; what ended it. */
struct fault user_run_flags(const void *code, unsigned n, word flags);
struct fault user_run(const void *code, unsigned n);
/* Puts n bytes of code, with ud2 behind them, to the start of the code page. */
void user_load(const void *code, unsigned n);
#define USER_RUN(...) ({ static const u8 code_[] = { __VA_ARGS__ }; user_run(code_, sizeof(code_)); })

#endif
