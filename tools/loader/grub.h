/*
 * What a configuration of GRUB says about kernels: as far as `set`, `if`, `search`, `menuentry`, `submenu`, `linux` and `initrd` go; and
 * the entries of the Boot Loader Specification. Pure code, as fs.h's.
 */
#ifndef LOADER_GRUB_H
#define LOADER_GRUB_H

#include "fs.h"

#define GRUB_ENTRIES 64u
#define GRUB_VARS    64u
#define GRUB_INITRDS 4u

/* What GRUB's commands ask of the machine; answers are for one word, ctx is the caller's. */
struct grub_host {
    /* Is the path, which may have a device before it, "(hd0,gpt1)/x", a file? root: the device of those without. */
    bool (*is_file)(void *ctx, const char *root, const char *path);
    /* The contents, terminated, of as much as there is room for; the length, or an error. */
    int (*read_text)(void *ctx, const char *root, const char *path, char *text, unsigned room);
    /* The device with a file system of that uuid, label, or with that file. kind: 'u', 'l' or 'f'. */
    bool (*search)(void *ctx, char kind, const char *value, char *device, unsigned room);
    void *ctx;
};

struct grub_entry {
    char title[128], id[128], index[16];    /* of an entry in submenus with those of these before it: "1>0" */
    const char *body, *end;                 /* commands; none in an entry of the Boot Loader Specification */
    char bls[96];                           /* its file */
};

struct grub {
    const struct grub_host *host;
    struct { char name[32], value[256]; } vars[GRUB_VARS];
    unsigned nr_vars, nr_entries, steps;
    struct grub_entry entries[GRUB_ENTRIES];
    bool wants_bls;                         /* blscfg: entries are in files of their own */
    /* What the chosen entry names. root: the device of paths that name none. */
    char kernel[256], root[64], cmdline[1024];
    char initrd[GRUB_INITRDS][256];
    unsigned nr_initrds;
    struct image_error err;                 /* the first error; empty if none */
};

const char *grub_get(const struct grub *g, const char *name);
void grub_set(struct grub *g, const char *name, const char *value);

/* Text has a zero behind it, and is needed until grub_choose(). 0, or an error, which is in g->err. */
int grub_read(struct grub *g, const char *text);
/* An entry of the Boot Loader Specification, in the file of that name, whose text this is. */
int grub_add_bls(struct grub *g, const char *file, const char *text);
/* Orders entries of the Boot Loader Specification, the newest first. */
void grub_sort_bls(struct grub *g);
/* The entry that boots if nobody chooses: by number, title or id, as `default` says, else the first. There is one. */
unsigned grub_default(const struct grub *g);
/* Seconds that people have to choose, as `timeout` says; -1: for ever. */
int grub_timeout(const struct grub *g);
/* Runs the entry's commands. text: of an entry's file, if it has one. */
int grub_choose(struct grub *g, unsigned entry, const char *text);

#endif
