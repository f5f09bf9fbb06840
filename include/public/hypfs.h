/* SPDX-License-Identifier: MIT */
/*
 * hypfs_op: a tree of values that the hypervisor shows and lets the toolstack change. Facts from Xen 4.17's public/hypfs.h.
 *
 * hypfs_op(cmd, path, length of path with its zero byte, buffer, size of buffer)
 */
#ifndef PUBLIC_HYPFS_H
#define PUBLIC_HYPFS_H

#include <public/xen.h>

#define XEN_HYPFS_VERSION           1
#define XEN_HYPFS_MAX_PATHLEN       1024    /* with the zero byte */

#define XEN_HYPFS_OP_get_version    0       /* no arguments; returns XEN_HYPFS_VERSION */
#define XEN_HYPFS_OP_read           1       /* a xen_hypfs_direntry, then the contents; -ENOBUFS: the first alone, if all does not fit */
#define XEN_HYPFS_OP_write_contents 2

#define XEN_HYPFS_TYPE_DIR          0       /* contents: xen_hypfs_dirlistentry, each with its name */
#define XEN_HYPFS_TYPE_BLOB         1
#define XEN_HYPFS_TYPE_STRING       2       /* with its zero byte */
#define XEN_HYPFS_TYPE_UINT         3
#define XEN_HYPFS_TYPE_INT          4
#define XEN_HYPFS_TYPE_BOOL         5
#define XEN_HYPFS_ENC_PLAIN         0
#define XEN_HYPFS_ENC_GZIP          1
struct xen_hypfs_direntry {
    u8 type, encoding;
    u16 pad;
    u32 content_len;                        /* bytes */
    u32 max_write_len;                      /* bytes; 0: only to be read */
};

struct xen_hypfs_dirlistentry {
    struct xen_hypfs_direntry e;
    u16 off_next;                           /* bytes from here to the next; 0: the last */
    char name[];                            /* with its zero byte; the next entry is aligned to 4 */
};

#endif
