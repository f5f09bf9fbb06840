# SPDX-License-Identifier: MIT
"""Where include/public/ says something that Xen's headers do not say, or say under another name."""

_WORD = 'the names of the feature words stand only in comments there'
_SLOT = 'upper half of an 8-byte slot that holds a 4-byte handle'

# Ours alone: name or structure.member -> reason.
ABSENT = {
    'iret_context (32-bit)': 'a 32-bit guest\'s iret hypercall takes the CPU\'s own frame',
    **{name: 'our own call: include/public/pvisor.h' for name in (
        '__HYPERVISOR_pvisor_op', 'PVISOROP_switch_format', 'PVISOR_FORMAT_NONPAE', 'pvisor_switch_format (64-bit)',
        'pvisor_switch_format (32-bit)', 'PVISOR_PFINFO_NONPAE', 'PVISOR_ADDRESS_SIZE_NONPAE')},
    **{name: 'of releases that Debian has not as packages' for name in (
        'DOMID_ANY', 'XEN_DOMCTL_INTERFACE_VERSION_4_18', 'XEN_DOMCTL_INTERFACE_VERSION_4_22', 'XEN_DOMCTL_INTERFACE_VERSION',
        'XEN_DOMCTL_INTERFACE_STABLE', 'XEN_SYSCTL_INTERFACE_VERSION_4_21', 'XEN_SYSCTL_INTERFACE_VERSION', 'XEN_DOMCTL_get_domain_state',
        'xen_domctl_get_domain_state (64-bit)', 'xen_domctl_get_domain_state (32-bit)', 'xen_domctl.u.get_domain_state')},
    **{f'XEN_DOMCTL_GETDOMSTATE_{name}': 'of 4.21' for name in (
        'STATE_EXIST STATE_SHUTDOWN STATE_DYING STATE_DEAD CAP_CONTROL CAP_HARDWARE CAP_XENSTORE').split()},
    'NR_HYPERCALLS': 'size of our table: one slot per number that the hypercall page can hold',
    'TI_DPL_MASK': 'the function-like TI_GET_DPL there',
    'TI_IF': 'the function-like TI_GET_IF there',
    'XEN_EMULATE_PREFIX_BYTES': 'a string for the assembler there',
    'XEN_COMMANDLINE_LEN': 'only the type xen_commandline_t there',
    'XENPF_FIRMWARE_INFO_U': 'offset of a union; xenpf_firmware_info.u is compared',
    'xenpf_pminfo_head (64-bit)': 'the first words of xenpf_set_processor_pminfo',
    'xenpf_pminfo_head (32-bit)': 'the first words of xenpf_set_processor_pminfo',
    'FEATURESET_NR_WORDS': _WORD,
    **{f'FEATURESET_{w}': _WORD for w in (
        '1d 1c e1d e1c Da1 7b0 7c0 e7d e8b 7d0 7a1 e21a 7b1 7d2 7c1 7d1 m10Al m10Ah e21c').split()},
    'xen_sysctl_pm_op.u.pad': 'the members that we do not use',
    'vcpu_register_runstate_memory_area.pad': _SLOT,
    'vcpu_register_time_memory_area.pad': _SLOT,
    'xen_vnuma_topology_info.vdistance_pad': _SLOT,
    'xen_vnuma_topology_info.vcpu_to_vnode_pad': _SLOT,
    'xen_vnuma_topology_info.vmemrange_pad': _SLOT,
    'arch_vcpu_info.pad32': 'pad[1] to pad[4] there; the whole size is compared',
}

# Offset compared, size not.
SIZE_DIFFERS = {
    'xen_platform_op.u.set_pminfo': 'the first words; what follows depends on the word size',
    'xen_domctl.u.createdomain': 'another in each release: xen_domctl_createdomain_4_17 and _4_19',
    **{name: 'ours holds only the members of the union that have one layout' for name in (
        'xenpf_firmware_info', 'xenpf_firmware_info.u', 'xenpf_firmware_info.u.efi_info',
        'xen_platform_op.u.firmware_info')},
}

# The calls of UEFI's runtime services are one structure with a union there: ours -> the member, and what of it we have.
_EFI_CALLS = {
    'xenpf_efi_get_time': ('get_time', 'time resolution accuracy'),
    'xenpf_efi_variable': ('get_variable', 'name size data vendor_guid'),
    'xenpf_efi_next_variable': ('get_next_variable_name', 'size name vendor_guid'),
    'xenpf_efi_variable_info': ('query_variable_info', 'attr max_store_size remain_store_size max_size'),
}
SIZE_DIFFERS.update({name: 'without the other members of the union' for name in (
    'xenpf_efi_runtime_call', 'xenpf_efi_get_time', 'xenpf_efi_set_time', 'xenpf_efi_next_variable', 'xenpf_efi_variable_info')})

# Structures without a name of their own there: ours -> (structure, member).
STRUCT_ALIAS = {
    'start_info_dom0_console': ('start_info', 'console.dom0'),
    'xenpf_fw_disk_info': ('xenpf_firmware_info', 'u.disk_info'),
    'xenpf_fw_vbeddc_info': ('xenpf_firmware_info', 'u.vbeddc_info'),
    'xenpf_fw_efi_cfg': ('xenpf_firmware_info', 'u.efi_info.cfg'),
    'xenpf_fw_efi_vendor': ('xenpf_firmware_info', 'u.efi_info.vendor'),
    'xenpf_fw_efi_mem': ('xenpf_firmware_info', 'u.efi_info.mem'),
    'xenpf_efi_set_time': ('xenpf_efi_runtime_call', ''),
    **{name: ('xenpf_efi_runtime_call', '') for name in _EFI_CALLS},
}

# Members of unions that we flatten: ours -> path there, or {word size: path}.
MEMBER_ALIAS = {
    'start_info.console_mfn': 'console.domU.mfn',
    'start_info.console_evtchn': 'console.domU.evtchn',
    'arch_vcpu_info.pad': {64: 'pad', 32: 'pad[0]'},
    'callback_register.cs': {32: 'address.cs'},
    'callback_register.eip': {64: 'address', 32: 'address.eip'},
    'physdev_op.apic_op': 'u.apic_op',
    'vcpu_register_runstate_memory_area.addr': 'addr.h',
    'vcpu_register_time_memory_area.addr': 'addr.h',
    'xen_add_to_physmap_batch.foreign_domid': 'u.foreign_domid',
    'xenpf_efi_set_time.time': 'u.set_time',
    **{f'{name}.{member}': f'u.{call}.{member}' for name, (call, members) in _EFI_CALLS.items() for member in members.split()},
    'xen_vnuma_topology_info.vdistance': 'vdistance.h',
    'xen_vnuma_topology_info.vcpu_to_vnode': 'vcpu_to_vnode.h',
    'xen_vnuma_topology_info.vmemrange': 'vmemrange.h',
}
