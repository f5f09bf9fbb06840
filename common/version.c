/*
 * What the hypervisor says of itself: xen_version. Tools compare the version with their own, so it is one of Xen's; our own name is in
 * the other strings.
 */
#include <asm/nospec.h>
#include <asm/pt_format.h>
#include <public/errno.h>
#include <public/version.h>
#include <pvisor/cmdline.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/version.h>

#ifndef XEN_EXTRA
#define XEN_EXTRA "-pvisor"
#define PVISOR_VERSION "0"
#define BUILD_KIND "test"
#endif

/* No date: the same source gives the same bytes. */
const char version_extra[] = XEN_EXTRA, version_changeset[] = "pvisor " PVISOR_VERSION, version_compile_by[] = "pvisor";
const char version_compile_date[] = BUILD_KIND " build", version_compiler[] = "gcc " __VERSION__;

/* From the linker script: the build-id note. */
extern const u8 __note_start[] __attribute__((weak)), __note_end[] __attribute__((weak));
#define NOTE_HEADER 16      /* three words, and the name "GNU" */

/* Formats that guests can be built in. Each has a capability string of its own. */
static const bool format_enabled[NR_PT_FORMATS] = { [PT64] = true, [PT32P] = true, [PT32] = true };

static s64 give_string(gva_t to, const char *s, size_t room)
{
    char buf[XEN_CAPABILITIES_INFO_LEN] = "";

    strlcpy(buf, s, room);
    return copy_to_guest(to, buf, room);
}

static s64 version(gva_t to) { (void)to; return version_number; }
static s64 page_size(gva_t to) { (void)to; return PAGE_SIZE; }
static s64 extra_version(gva_t to) { return give_string(to, version_extra, XEN_EXTRAVERSION_LEN); }
static s64 changeset(gva_t to) { return give_string(to, version_changeset, XEN_CHANGESET_INFO_LEN); }

static s64 compile_info(gva_t to)
{
    struct xen_compile_info info = { .compile_domain = "" };

    strlcpy(info.compiler, version_compiler, sizeof(info.compiler));
    strlcpy(info.compile_by, version_compile_by, sizeof(info.compile_by));
    strlcpy(info.compile_date, version_compile_date, sizeof(info.compile_date));
    return copy_to_guest(to, &info, sizeof(info));
}

/* Tools look for each format's name followed by a space or the end. The rest of the array is 0. */
static void list_capabilities(char s[XEN_CAPABILITIES_INFO_LEN])
{
    memset(s, 0, XEN_CAPABILITIES_INFO_LEN);
    for (unsigned i = 0; i < NR_PT_FORMATS; i++) {
        if (!format_enabled[i])
            continue;
        strlcat(s, pt_formats[i].capability, XEN_CAPABILITIES_INFO_LEN);
        strlcat(s, " ", XEN_CAPABILITIES_INFO_LEN);
    }
}

static s64 capabilities(gva_t to)
{
    char s[XEN_CAPABILITIES_INFO_LEN];

    list_capabilities(s);
    return copy_to_guest(to, s, sizeof(s));
}

static s64 platform_parameters(gva_t to)
{
    struct xen_platform_parameters p = { .virt_start = current->domain->arch.fmt->hv_start };

    return guest_write_abi(xen_platform_parameters, to, &p);
}

#define FEATURE(name) (1u << XENFEAT_##name)

static u32 features(const struct domain *d)
{
    u32 map = FEATURE(mmu_pt_update_preserve_ad) | FEATURE(highmem_assist) | FEATURE(gnttab_map_avail_bits) |
              FEATURE(memory_op_vnode_supported) | FEATURE(not_direct_mapped) | FEATURE(runstate_phys_area) |
              FEATURE(vcpu_time_phys_area);

    if (d->vm_assist >> VMASST_TYPE_pae_extended_cr3 & 1)
        map |= FEATURE(pae_pgdir_above_4gb);
    if (d->is_hardware)
        map |= FEATURE(dom0);
    return map;
}

static s64 get_features(gva_t at)
{
    struct xen_feature_info f;

    if (copy_from_guest(&f, at, sizeof(f)))
        return -EFAULT;
    if (f.submap_idx >= XENFEAT_NR_SUBMAPS)
        return refuse(-EINVAL, "feature map %u, there are %u", f.submap_idx, XENFEAT_NR_SUBMAPS);
    f.submap = features(current->domain);
    return copy_to_guest(at, &f, sizeof(f));
}

static s64 guest_handle(gva_t to)
{
    return copy_to_guest(to, current->domain->handle, sizeof(xen_domain_handle_t));
}

static s64 command_line(gva_t to)
{
    return give_string(to, is_control_domain(current->domain) ? cmdline_get() : "<denied>",
                       XEN_COMMANDLINE_LEN);
}

/* Any number of bytes into a struct xen_varbuf. */
static s64 give_bytes(gva_t at, const void *bytes, size_t size)
{
    u32 room;

    if (!at.v)
        return (s64)size;
    if (copy_from_guest(&room, at, sizeof(room)))
        return -EFAULT;
    if (!room)
        return refuse(-EINVAL, "no room for what was asked");
    if (room < size)
        return refuse(-ENOBUFS, "%u bytes of room, the answer has %zu", room, size);
    return copy_to_guest(gva_add(at, offsetof(struct xen_varbuf, buf)), bytes, size) ? -EFAULT : (s64)size;
}

static s64 build_id(gva_t at)
{
    size_t size = (size_t)(__note_end - __note_start);

    if (control_only())
        return -EPERM;
    if (!__note_start || size <= NOTE_HEADER)
        return -ENODATA;
    return give_bytes(at, __note_start + NOTE_HEADER, size - NOTE_HEADER);
}

static s64 extra_version_whole(gva_t at) { return give_bytes(at, version_extra, strlen(version_extra)); }
static s64 changeset_whole(gva_t at) { return give_bytes(at, version_changeset, strlen(version_changeset)); }

static s64 capabilities_whole(gva_t at)
{
    char s[XEN_CAPABILITIES_INFO_LEN];

    list_capabilities(s);
    return give_bytes(at, s, strlen(s));
}

static s64 command_line_whole(gva_t at)
{
    return control_only() ?: give_bytes(at, cmdline_get(), strlen(cmdline_get()));
}

static s64 (*const commands[])(gva_t arg) = {
    [XENVER_version]             = version,
    [XENVER_extraversion]        = extra_version,
    [XENVER_compile_info]        = compile_info,
    [XENVER_capabilities]        = capabilities,
    [XENVER_changeset]           = changeset,
    [XENVER_platform_parameters] = platform_parameters,
    [XENVER_get_features]        = get_features,
    [XENVER_pagesize]            = page_size,
    [XENVER_guest_handle]        = guest_handle,
    [XENVER_commandline]         = command_line,
    [XENVER_build_id]            = build_id,
    [XENVER_extraversion2]       = extra_version_whole,
    [XENVER_capabilities2]       = capabilities_whole,
    [XENVER_changeset2]          = changeset_whole,
    [XENVER_commandline2]        = command_line_whole,
};

s64 do_xen_version(u64 cmd, u64 arg, u64, u64, u64, u64)
{
    cmd = (u32)cmd;
    if (cmd >= ARRAY_SIZE(commands) || !commands[cmd])
        return refuse(-ENOSYS, "unknown command %lu", cmd);
    return array_nospec(commands, cmd)(gva(arg));
}
