/* private_jansson.c - the stdin that a jansson inside libpillion.so finds; see Packages.cmake. */
extern void *__wrap_stdin;
__attribute__((visibility("hidden"))) void *__wrap_stdin;
