; The font of drivers/char/framebuffer.c, which the build unpacks: Spleen 8x16.
section .note.GNU-stack noalloc noexec nowrite progbits
section .rodata
global font:data hidden
font: incbin "font.psf"
