/* What the files of platform_op share. */
#ifndef PLATFORM_INTERNAL_H
#define PLATFORM_INTERNAL_H

#include <public/errno.h>
#include <public/platform.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/printk.h>

/* Each handler gets the whole structure, copied in; it is copied out again if the handler returns no error. */
typedef s64 platform_fn(struct xen_platform_op *op);

/* A piece that depends on the word size, from the bytes of the union and back. */
#define DECODE(name, internal, op) abi_decode(current_word(), &name##_desc, (internal), (op)->u.pad)
#define ENCODE(name, op, internal) abi_encode(current_word(), &name##_desc, (op)->u.pad, (internal))

platform_fn op_resource;        /* resource.c */
platform_fn op_microcode, op_microcode2, op_microcode_revision;     /* microcode.c */
platform_fn op_processor_info;  /* processor.c */
platform_fn op_console;         /* screen.c; how many bytes it says of the screen */

/* XENPF_firmware_info, XEN_FW_EFI_INFO: -ENOSYS where the firmware is no UEFI. */
platform_fn platform_efi_info;
/* XENPF_efi_runtime_call: 0 if the firmware was called, whose answer is in op then. -ERESTART_HYPERCALL: it is busy, call again. */
platform_fn platform_efi_call;

#endif
