/* The image: loaded at 2 MiB, run at IMAGE_START + its load address. */
#include <asm/layout.h>

#define LOAD_BASE 0x200000
#define BOOT_ONLY(...) \
    *liblzma.a:*(__VA_ARGS__) *libzstd.a:*(__VA_ARGS__) *libz.a:*(__VA_ARGS__) *liblz4.a:*(__VA_ARGS__) \
    *common?image?*.o(__VA_ARGS__) *pv?dom0_build.o(__VA_ARGS__)

OUTPUT_FORMAT("elf64-x86-64")
OUTPUT_ARCH(i386:x86-64)
ENTRY(start32)

SECTIONS
{
    . = LOAD_BASE;
    __image_phys_start = .;
    .boot : { KEEP(*(.multiboot)) KEEP(*(.boot)) . = ALIGN(16); }
    . = ALIGN(4096);
    __image_offset = ABSOLUTE(IMAGE_START);
    . = . + IMAGE_START;
    __image_start = __image_phys_start + IMAGE_START;
    __text_start = .;
    .text.first : AT(ADDR(.text.first) - IMAGE_START) { *(.text.entry) }
    __entry_text_end = .;
    /* What only boot uses goes back to the heap: decompressors, the kernel loader, the builder. First match wins. */
    . = ALIGN(4096);
    __init_text_start = .;
    .init.text : AT(ADDR(.init.text) - IMAGE_START) {
        *(.init.text .init.text.*)
        BOOT_ONLY(.text .text.*)
    }
    . = ALIGN(4096);
    __init_text_end = .;
    __init_data_start = .;
    .init.data : AT(ADDR(.init.data) - IMAGE_START) {
        *(.init.data .init.data.* .init.rodata .init.rodata.*)
        BOOT_ONLY(.rodata .rodata.* .data .data.* .data.rel.ro .data.rel.ro.*)
    }
    . = ALIGN(4096);
    __init_data_end = .;
    __main_text_start = .;
    .text : AT(ADDR(.text) - IMAGE_START) { *(.text .text.*) }
    . = ALIGN(4096);
    __text_end = .;
    __rodata_start = .;
    .rodata : AT(ADDR(.rodata) - IMAGE_START) {
        *(.rodata .rodata.*)
        . = ALIGN(8); __ex_table_start = .; KEEP(*(.ex_table)) __ex_table_end = .;
        . = ALIGN(8); __percpu_start = .; KEEP(*(.percpu)) __percpu_end = .;
        . = ALIGN(4); __sites = .; KEEP(*(.sites)) __sites_end = .;
        . = ALIGN(8); __cmdline_start = .; KEEP(*(.cmdline)) __cmdline_end = .;
        . = ALIGN(8); *(.got .got.* .data.rel.ro .data.rel.ro.*)
    }
    .note : AT(ADDR(.note) - IMAGE_START) { __note_start = .; *(.note.gnu.build-id) __note_end = .; }
    .symbols : AT(ADDR(.symbols) - IMAGE_START) { KEEP(*(.symbols)) }
    . = ALIGN(4096);
    __rodata_end = .;
    __data_start = .;
    .data : AT(ADDR(.data) - IMAGE_START) { *(.data .data.*) . = ALIGN(8); }
    __load_end_phys = . - IMAGE_START;
    . = ALIGN(4096);
    __init_bss_start = .;    /* and a gap, for what is first is aligned like a stack */
    .bss (NOLOAD) : AT(ADDR(.bss) - IMAGE_START) {
        __bss_start = .;
        KEEP(*(.bss.init))
        . = ALIGN(4096);
        __init_bss_end = .;
        KEEP(*(.bss.page_aligned)) *(.bss.percpu) *(.bss .bss.* COMMON)
        . = ALIGN(4096);
        __bss_end = .;
    }
    __image_end = .;
    __bss_start_phys = __bss_start - IMAGE_START;
    __image_end_phys = . - IMAGE_START;
    boot_l4_phys = boot_l4 - IMAGE_START;
    boot_l3_low_phys = boot_l3_low - IMAGE_START;
    boot_l3_image_phys = boot_l3_image - IMAGE_START;
    boot_l2_phys = boot_l2 - IMAGE_START;
    /DISCARD/ : { *(.comment) *(.eh_frame*) *(.note.GNU-stack) *(.note.gnu.property) *(.init_array*) *(.fini_array*) }
}
ASSERT(__image_end <= IMAGE_END, "image too large for its region")
