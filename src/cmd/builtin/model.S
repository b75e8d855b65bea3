/* model.S - the compiled built-in model, mapped with the program: page-aligned, read-only, shared by every process. */
    .section .rodata.pillion_model, "a"
    .balign 4096
    .global pil_builtin_begin, pil_builtin_end
    .hidden pil_builtin_begin, pil_builtin_end
pil_builtin_begin:
    .incbin PILLION_MODEL_FILE
pil_builtin_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
