/* heap.h - what the heap of a process keeps of memory that was freed. For the programs of the server half: a library
 * must not decide this for the application that it lives in. Without glibc nothing of it does anything. */
#ifndef PIL_BASE_HEAP_H
#define PIL_BASE_HEAP_H

/* One heap for all threads of the process, before the first of them. By default the C library gives each a heap of its
 * own, which keeps what was once in it. */
void pil_heap_keep_one(void);
/* Has every large block of memory given back to the system when it is freed, for the whole process. By default the C
 * library keeps them for itself once it has seen a few, so that one large request makes a server large for ever. */
void pil_heap_return_large_blocks(void);
/* Gives back what was freed in small blocks and lies between others. Some milliseconds after a large request. */
void pil_heap_return_free_memory(void);

#endif
