/*
 * What is said to libxl, which has started this program: messages on standard output, and on standard input a number for each that wants an
 * answer. Their numbers and the arguments of the command line are those of libxl 4.17 to 4.20; libxl says by the bits of its last but one
 * argument which of them it serves, and speaks_like_us() compares.
 */
#ifndef SAVE_HELPER_TALK_H
#define SAVE_HELPER_TALK_H

#include <stdbool.h>
#include <stdint.h>
#include <xentoollog.h>

enum message {
    MSG_LOG = 1, MSG_PROGRESS = 2, MSG_SUSPEND = 3, MSG_POSTCOPY = 4, MSG_CHECKPOINT = 5, MSG_WAIT_CHECKPOINT = 6, MSG_QEMU_LOGDIRTY = 7,
    MSG_STATIC_DATA_DONE = 8, MSG_RESTORE_RESULTS = 9, MSG_COMPLETE = 10,
};
#define MSG_BIT(m) (1u << (m))

/* Does libxl, which has these bits, serve the messages that are wanted, and none that nobody here knows? */
bool speaks_like_us(unsigned bits, unsigned wanted);

void say(xentoollog_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_progress(const char *what, unsigned long done, unsigned long total);

/* Asks libxl to have the guest suspend itself. True: it has. */
bool ask_to_suspend(void);
/* All that the guest is made with is there, but what missing (XGR_SDD_*) says. False: libxl could not do its part. */
bool say_static_data_done(unsigned missing);
void say_restore_results(uint64_t store_frame, uint64_t console_frame);
/* From now on libxl expects results before the end, whatever that is. */
void promise_restore_results(void);

/* What is to be put right before the program ends, however it ends here: before libxl hears of it, or when that is gone. NULL: nothing. */
void at_end(void (*fn)(void));

/* For handlers of signals: no answers are awaited from now on. fd has none to read. */
void talk_give_up(int fd);

/* The end: all is done, or it is not and the log gets the reason. error: an errno, or 0 where it would say nothing. */
void say_complete(void) __attribute__((noreturn));
void fail(int error, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

#endif
