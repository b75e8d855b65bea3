/* none.S - a program without a built-in model. */
    .section .rodata.pillion_model, "a"
    .balign 4096
    .global pil_builtin_begin, pil_builtin_end
    .hidden pil_builtin_begin, pil_builtin_end
pil_builtin_begin:
pil_builtin_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
