"""The PV interface's primitives, measured by a benchmark kernel that is started as dom0 under each hypervisor."""
import machine

GEOMEAN_GOAL = 0.33
EACH_GOAL = 0.6

# name on the kernel's lines: what it is. The order is the table's.
NAMES = {
    "hypercall": "empty hypercall (xen_version)",
    "multicall": "multicall of 32, per call",
    "update_va_mapping": "update_va_mapping with INVLPG",
    "update_va_mapping_prot": "update_va_mapping, protection only",
    "mmu_update": "mmu_update, one entry",
    "mmu_update_batch": "mmu_update, batch of 32, per entry",
    "pte_write": "direct write to a page table",
    "pin_unpin": "pin and unpin an L2 over a full L1",
    "tlb_flush": "MMUEXT_TLB_FLUSH_LOCAL",
    "invlpg": "MMUEXT_INVLPG_LOCAL",
    "new_baseptr": "MMUEXT_NEW_BASEPTR",
    "stack_switch": "stack_switch",
    "event_send": "event send to self, masked",
    "event_round": "event send, upcall, return",
    "page_fault": "page fault in the kernel, and back",
    "invalid_opcode": "#UD in the kernel, and back",
    "user_syscall": "SYSCALL from user mode, and back",
    "user_page_fault": "page fault in user mode, and back",
    "read_cr3": "read of CR3 (emulated)",
    "rdmsr": "RDMSR (emulated)",
    "forced_cpuid": "CPUID by forced emulation",
    "timer_set": "set_timer_op",
    "console_byte": "console_io, one byte",
    "fpu_taskswitch": "fpu_taskswitch",
    "fpu_lazy": "fpu_taskswitch on, off, an FPU instruction",
    "update_descriptor": "update_descriptor",
    "set_gdt": "set_gdt, one page",
    "set_ldt": "MMUEXT_SET_LDT to none",
    "segment_base": "set_segment_base",
    "yield": "SCHEDOP_yield, alone",
    "grant_map": "grant mapped and unmapped, one page",
    "grant_map_batch": "grant mapped and unmapped, batch of 32, per page",
    "grant_copy": "grant copy of 4 KiB, batch of 32, per page",
}
ALIASES = {"set_segment_base": "segment_base"}
# Which test of the kernel prints a name, where that is not the name itself.
TEST_OF = {
    "update_va_mapping_prot": "update_va_mapping", "mmu_update_batch": "mmu_update", "pin_unpin": "pin",
    "forced_cpuid": "forced_cpuid", "timer_set": "timer", "console_byte": "console", "fpu_taskswitch": "fpu_switch",
    "fpu_lazy": "fpu_switch", "update_descriptor": "descriptor", "set_gdt": "descriptor", "set_ldt": "descriptor",
}


def run(hypervisor, options, wanted, progress):
    """{name: instructions per operation} of the wanted names on one hypervisor."""
    kernel = machine.benchmark_kernel("primitives", options)
    words = "test=" + ",".join(sorted({TEST_OF.get(name, name) for name in wanted}))
    command = machine.qemu(hypervisor, [f"{kernel} {words}".replace(",", ",,")], memory=512, dom0="128M", options=options)
    results = {ALIASES.get(name, name): figure for name, figure in machine.figures(command, options, progress).items()}
    return {name: value for name, value in results.items() if name in wanted}
