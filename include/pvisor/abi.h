/*
 * Structures whose layout depends on the guest's word size, described once.
 *
 * A structure is a list of fields, a macro over X(kind, name) and X(kind, name, [n]):
 *
 *   #define XEN_MEMORY_RESERVATION_FIELDS(X) \
 *       X(PTR, extent_start) X(LONG, nr_extents) X(U32, extent_order) X(U32, mem_flags) X(U16, domid)
 *   ABI_STRUCT(xen_memory_reservation, XEN_MEMORY_RESERVATION_FIELDS)
 *
 * ABI_STRUCT(name, FIELDS) yields
 *   struct name          what handlers use: words and pointers are u64, whatever the guest is
 *   struct name##_l64    the layout a 64-bit guest has in memory
 *   struct name##_l32    the layout a 32-bit guest has in memory (words of 4 bytes, u64 aligned to 4)
 *   name##_desc          the table that abi_decode() and abi_encode() follow from one to the other
 *
 * Kinds:
 *   PTR LONG             one word of the guest; zero-extended on the way in
 *   U64 S64              8 bytes, aligned to 4 in the 32-bit layout
 *   U32 S32 U16 S16 U8 S8 CHAR
 *   U32_IN64             there only in the 64-bit layout; zero when the guest is 32-bit
 *   U32_IN32 LONG_IN32   there only in the 32-bit layout; zero when the guest is 64-bit
 *   PORTS                the two-level event channels' bitmap: one bit per port, word x word bits
 *   STRUCT(t)            another ABI_STRUCT
 *   PLAIN(t)             a struct t whose layout is the same for both word sizes
 *
 * Structures of control calls have one layout for both word sizes, but may have another in another version of the interface. Such a
 * one's kinds say since which release of Xen's tools a field is there, with the type that it has in C:
 *
 *   SINCE_4_17(t) SINCE_4_19(t)
 *
 * ABI_VERSIONED(name, FIELDS) yields
 *   struct name          what handlers use, and what the newest tools say
 *   struct name##_4_17   the layout of tools from 4.17 on
 *   struct name##_4_19   the layout of tools from 4.19 on
 *   name##_desc          as above, for ABI_4_17 and ABI_4_19
 */
#ifndef PVISOR_ABI_H
#define PVISOR_ABI_H

#include <pvisor/short_way.h>
#include <pvisor/types.h>

/* Word size and alignment of a guest's structures; an index into every pair below. */
enum abi_word { ABI_64 = 0, ABI_32 = 1 };
#define ABI_NR 2

/* The same of control calls: the layouts that there have been. */
enum abi_release { ABI_4_17 = 0, ABI_4_19 = 1 };

/* One or the other: which layout is meant. */
typedef unsigned abi_layout;

static inline unsigned abi_word_bytes(enum abi_word w) { return w == ABI_64 ? 8 : 4; }

struct abi_desc;

/* Size and alignment of one element in one of the three structures. Size 0: not in that layout. */
struct abi_place {
    u16 size, align;
};

/* Offsets are not stored: walking the fields in order with C's own alignment rule gives them. */
struct abi_field {
    struct abi_place in;
    struct abi_place raw[ABI_NR];
    u16 count;
    const struct abi_desc *sub; /* STRUCT(t) only */
};

struct abi_desc {
    const char *name;
    u32 nr_fields;
    u32 internal_size;
    u32 size[ABI_NR];
    const struct abi_field *fields;
};

/* Bytes that the structure takes in the memory of a guest. */
static inline size_t abi_size(abi_layout w, const struct abi_desc *d) { return d->size[w]; }

/*
 * raw (abi_size(w, d) bytes in the guest's layout, any alignment) to internal (d->internal_size bytes).
 * Every byte of internal is written, padding included.
 */
void abi_decode(abi_layout w, const struct abi_desc *d, void *internal, const void *raw);

/*
 * internal to raw; padding of raw becomes zero. False if a value does not fit the guest's word (then
 * raw holds truncated values and must not be used).
 */
bool abi_encode(abi_layout w, const struct abi_desc *d, void *raw, const void *internal) must_check;

/* Offset and size of a field in the guest's layout, for pages that are shared and not copied. */
#define abi_offset(w, name, field) \
    ((w) == ABI_64 ? offsetof(struct name##_l64, field) : offsetof(struct name##_l32, field))
/* abi_decode(), in line where there is nothing to translate. */
#define abi_read(name, w, internal, raw) do {                                       \
    struct name *in_ = (internal);                                                  \
    const void *raw_ = (raw);                                                       \
    if (short_way(name##_is_same_64()) && (w) == ABI_64)                            \
        __builtin_memcpy(in_, raw_, sizeof(*in_));                                  \
    else                                                                            \
        abi_decode(w, &name##_desc, in_, raw_);                                     \
} while (0)
#define abi_sizeof(w, name) ((w) == ABI_64 ? sizeof(struct name##_l64) : sizeof(struct name##_l32))

/* --- How the kinds look in the three structures --------------------------------------------------- */

typedef u64 __attribute__((aligned(4))) abi_u64_32;
typedef s64 __attribute__((aligned(4))) abi_s64_32;
struct abi_absent {};
struct abi_ports_64 { u64 word[64]; };
struct abi_ports_32 { u32 word[32]; };

#define ABI_IN_PTR u64
#define ABI_IN_LONG u64
#define ABI_IN_U64 u64
#define ABI_IN_S64 s64
#define ABI_IN_U32 u32
#define ABI_IN_S32 s32
#define ABI_IN_U16 u16
#define ABI_IN_S16 s16
#define ABI_IN_U8 u8
#define ABI_IN_S8 s8
#define ABI_IN_CHAR char
#define ABI_IN_U32_IN64 u32
#define ABI_IN_U32_IN32 u32
#define ABI_IN_LONG_IN32 u64
#define ABI_IN_PORTS struct abi_ports_64
#define ABI_IN_STRUCT(t) struct t
#define ABI_IN_PLAIN(t) struct t

#define ABI_L64_PTR u64
#define ABI_L64_LONG u64
#define ABI_L64_U64 u64
#define ABI_L64_S64 s64
#define ABI_L64_U32 u32
#define ABI_L64_S32 s32
#define ABI_L64_U16 u16
#define ABI_L64_S16 s16
#define ABI_L64_U8 u8
#define ABI_L64_S8 s8
#define ABI_L64_CHAR char
#define ABI_L64_U32_IN64 u32
#define ABI_L64_U32_IN32 struct abi_absent
#define ABI_L64_LONG_IN32 struct abi_absent
#define ABI_L64_PORTS struct abi_ports_64
#define ABI_L64_STRUCT(t) struct t##_l64
#define ABI_L64_PLAIN(t) struct t

#define ABI_L32_PTR u32
#define ABI_L32_LONG u32
#define ABI_L32_U64 abi_u64_32
#define ABI_L32_S64 abi_s64_32
#define ABI_L32_U32 u32
#define ABI_L32_S32 s32
#define ABI_L32_U16 u16
#define ABI_L32_S16 s16
#define ABI_L32_U8 u8
#define ABI_L32_S8 s8
#define ABI_L32_CHAR char
#define ABI_L32_U32_IN64 struct abi_absent
#define ABI_L32_U32_IN32 u32
#define ABI_L32_LONG_IN32 u32
#define ABI_L32_PORTS struct abi_ports_32
#define ABI_L32_STRUCT(t) struct t##_l32
#define ABI_L32_PLAIN(t) struct t

#define ABI_SUB_PTR NULL
#define ABI_SUB_LONG NULL
#define ABI_SUB_U64 NULL
#define ABI_SUB_S64 NULL
#define ABI_SUB_U32 NULL
#define ABI_SUB_S32 NULL
#define ABI_SUB_U16 NULL
#define ABI_SUB_S16 NULL
#define ABI_SUB_U8 NULL
#define ABI_SUB_S8 NULL
#define ABI_SUB_CHAR NULL
#define ABI_SUB_U32_IN64 NULL
#define ABI_SUB_U32_IN32 NULL
#define ABI_SUB_LONG_IN32 NULL
#define ABI_SUB_PORTS NULL
#define ABI_SUB_STRUCT(t) &t##_desc
#define ABI_SUB_PLAIN(t) NULL

#define ABI_DECL_IN(kind, field, ...)  ABI_IN_##kind field __VA_ARGS__;
#define ABI_DECL_L64(kind, field, ...) ABI_L64_##kind field __VA_ARGS__;
#define ABI_DECL_L32(kind, field, ...) ABI_L32_##kind field __VA_ARGS__;

/* A 64-bit guest's layout is most often our own: then there is nothing to translate. */
#define ABI_SAME_PTR true
#define ABI_SAME_LONG true
#define ABI_SAME_U64 true
#define ABI_SAME_S64 true
#define ABI_SAME_U32 true
#define ABI_SAME_S32 true
#define ABI_SAME_U16 true
#define ABI_SAME_S16 true
#define ABI_SAME_U8 true
#define ABI_SAME_S8 true
#define ABI_SAME_CHAR true
#define ABI_SAME_U32_IN64 true
#define ABI_SAME_U32_IN32 false
#define ABI_SAME_LONG_IN32 false
#define ABI_SAME_PORTS true
#define ABI_SAME_STRUCT(t) t##_is_same_64()
#define ABI_SAME_PLAIN(t) true
#define ABI_SAME_FIELD(kind, field, ...) \
    && ABI_SAME_##kind && offsetof(in_type, field) == offsetof(raw_type, field)

#define ABI_DECL_FIELD(kind, field, ...)                                           \
    {                                                                              \
        .in = { sizeof(ABI_IN_##kind), _Alignof(ABI_IN_##kind) },                  \
        .raw = { { sizeof(ABI_L64_##kind), _Alignof(ABI_L64_##kind) },             \
                 { sizeof(ABI_L32_##kind), _Alignof(ABI_L32_##kind) } },           \
        .count = sizeof(char __VA_ARGS__),                                         \
        .sub = ABI_SUB_##kind,                                                     \
    },

/* The description of a structure that has these two layouts. */
#define ABI_DESC(type, layout_0, layout_1, ...)                                                     \
    static const struct abi_field type##_fields[] __attribute__((unused)) = { __VA_ARGS__ };        \
    static const struct abi_desc type##_desc __attribute__((unused)) = {                            \
        .name = #type,                                                                              \
        .nr_fields = ARRAY_SIZE(type##_fields),                                                     \
        .internal_size = sizeof(struct type),                                                       \
        .size = { sizeof(struct layout_0), sizeof(struct layout_1) },                               \
        .fields = type##_fields,                                                                    \
    };

#define ABI_STRUCT(type, FIELDS)                                                                    \
    struct type { FIELDS(ABI_DECL_IN) };                                                            \
    struct type##_l64 { FIELDS(ABI_DECL_L64) };                                                     \
    struct type##_l32 { FIELDS(ABI_DECL_L32) };                                                     \
    static inline bool type##_is_same_64(void)                                                      \
    {                                                                                               \
        typedef struct type in_type;                                                                \
        typedef struct type##_l64 raw_type;                                                         \
        return sizeof(in_type) == sizeof(raw_type) FIELDS(ABI_SAME_FIELD);                          \
    }                                                                                               \
    ABI_DESC(type, type##_l64, type##_l32, FIELDS(ABI_DECL_FIELD))

/* --- By release ------------------------------------------------------------------------------------- */

#define ABI_TYPE_SINCE_4_17(t) t
#define ABI_TYPE_SINCE_4_19(t) t
#define ABI_4_17_SINCE_4_17(t) t
#define ABI_4_17_SINCE_4_19(t) struct abi_absent
#define ABI_4_19_SINCE_4_17(t) t
#define ABI_4_19_SINCE_4_19(t) t

#define ABI_DECL_TYPE(kind, field) ABI_TYPE_##kind field;
#define ABI_DECL_4_17(kind, field) ABI_4_17_##kind field;
#define ABI_DECL_4_19(kind, field) ABI_4_19_##kind field;
#define ABI_PLACE(t) { sizeof(t), _Alignof(t) }
#define ABI_DECL_VERSIONED(kind, field)                                            \
    {                                                                              \
        .in = ABI_PLACE(ABI_TYPE_##kind),                                          \
        .raw = { ABI_PLACE(ABI_4_17_##kind), ABI_PLACE(ABI_4_19_##kind) },         \
        .count = 1,                                                                \
    },

#define ABI_VERSIONED(type, FIELDS)                                                                 \
    struct type { FIELDS(ABI_DECL_TYPE) };                                                          \
    struct type##_4_17 { FIELDS(ABI_DECL_4_17) };                                                   \
    struct type##_4_19 { FIELDS(ABI_DECL_4_19) };                                                   \
    ABI_DESC(type, type##_4_17, type##_4_19, FIELDS(ABI_DECL_VERSIONED))

#endif
