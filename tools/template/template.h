/* pvisor-template: a saved domain as the beginning of many. What main.c has from the command line, and who does what with it. */
#ifndef TEMPLATE_TEMPLATE_H
#define TEMPLATE_TEMPLATE_H

#include "file.h"

#define NAME        "pvisor-template"
#define MAX_DEVICES 8u
#define VIF_SCRIPT  "/etc/xen/scripts/vif-bridge"       /* the tools call these when a device goes */
#define DISK_SCRIPT "/etc/xen/scripts/block"

struct disk {
    const char *path;           /* of a block device of dom0's */
    const char *vdev;           /* as the guest calls it */
    bool is_writable;
    uint32_t number;            /* vdev's */
    char device[24];            /* path's numbers, as blkback wants them */
};

struct card {
    const char *bridge;
    char mac[18];
};

/* A domain that is to be. */
struct job {
    const char *name;
    uint8_t uuid[16];
    char uuid_text[37];
    bool stays_paused, is_alone;        /* is_alone: nobody waits for its end to clear up behind it */
    struct disk disks[MAX_DEVICES];
    struct card cards[MAX_DEVICES];
    unsigned nr_disks, nr_cards;

    /* Known once it is made. */
    uint32_t domid, store_port, console_port;
    uint32_t keeper;            /* a domain that keeps the template's pages in memory, or 0 */
    uint64_t shared_info;       /* address */
    struct rings rings;
};

/* make.c: the template of what xl save has written, from one file into another. */
void template_make(int from, int to);
/* By paths: the second is what it was until all of the template is there. */
void template_make_file(const char *saved, const char *path);

/* start.c */
void template_start(const struct template *t, struct job *j);
/* A domain that never runs, and keeps the pages of data for those that start. */
void template_keep(const struct template *t, struct job *j);

/*
 * load.c: the domain, which has vCPUs and no memory, gets what the template has. load_memory() leaves frames mapped, and is for a process
 * of its own, which has ended before load_vcpus() is called in the one that called load_begin(). It sets j->rings.
 */
void load_begin(const struct template *t);
void load_memory(struct job *j);
void load_vcpus(const struct job *j);
/* The frames of a domain that keeps a template's pages of data, of which t has nothing else, and lets us read them. As load_memory(). */
void load_kept(const struct template *t);

/* devices.c: what the command line says of them becomes numbers. Ends the program with a reason if that cannot be. */
void text_check(const char *text, const char *what);        /* names and paths go into files as they are */
void disk_parse(struct disk *d, char *text);
void mac_parse(struct card *c, const char *text);
void mac_choose(struct card *c);
/* A network card's other end in dom0, which is there by now, goes to its bridge. */
void card_join(const struct job *j, unsigned number);

/* store.c: the nodes in xenstore by which a domain is known, to the tools, to the backends and to itself. */
void store_open(void);
/*
 * Ends the program if a domain has the name or the UUID, or if one may write to the same disk; so do store_write_domain() and
 * store_write_devices(), in one step with the writing.
 */
void store_check(const struct job *j);
void store_write_domain(const struct job *j, const struct template *t);
/* That it keeps the template; and who does, or 0. */
void store_write_keeper(const struct job *j, const struct template *t);
uint32_t store_find_keeper(const struct template *t);
void store_write_devices(const struct job *j);
/* xenstored serves it from now on, and xenconsoled its console. */
void store_introduce(const struct job *j);
/* Until the backend of a device is ready for the guest: path as backend_path() has it. */
void store_await_backend(const char *path);
void store_connected(const char *path);
/* The end of the domain, by a process that was begun for it. await: false: somebody has cleared up behind the domain. */
void store_watch_end(void);
bool store_await_end(const struct job *j);
/* Of what stands there what is the domain's own, however much of it was written, and whoever has the name and the UUID that it wanted. */
void store_forget(const struct job *j);
/* kind: "vbd" or "vif". */
void backend_path(char *path, size_t size, const struct job *j, const char *kind, uint32_t number);

/* settings.c */
void settings_write(const struct job *j, const struct template *t);
void settings_forget(const struct job *j);

/* end.c: what is to be undone if the program ends by fail(). */
void on_failure(void (*fn)(void));
/*
 * SIGINT, SIGTERM and SIGHUP wait from now on until they are looked at, and are a fail() then. signals_await(): until there is something to
 * read at fd (-1: nothing), or false when so many milliseconds (-1: for ever) are over; looks all the while.
 */
void signals_hold(void);
void signals_look(void);
bool signals_await(int fd, int ms);
/* In a process that goes on by itself: none that has come until now was for it, and from now on they do what they did. */
void signals_release(void);

#endif
