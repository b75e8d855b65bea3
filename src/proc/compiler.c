/* compiler.c - the child that makes a compiled file of a model directory, seen from the server.
 *
 * It writes lines of JSON (proc.h, pil_prepare_main); what it says is checked, and an end without an answer is an error
 * of its own. It has ended for us when it has exited and its output is read to the end.
 * Tests: tests/proc/test_pool.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hex.h"
#include "base/json.h"
#include "base/limits.h"
#include "proc/proc_int.h"

#define LINE_MAX_BYTES (64 * PIL_KIB)

bool pil_compiler_is_running(const pil_compiler *c) { return c->child || c->output; }

/* A "path" as proc.h has it, in plain bytes (free); NULL when it is none, or memory has run out. */
static char *path_of(const char *text) {
    char *path = strdup(text), *to = path;
    for (; path && *text; text++) {
        *to = *text;
        if (*text == '%') {
            int byte = pil_hex_byte(text + 1);
            if (byte <= 0) {
                free(path);
                return NULL;
            }
            *to = (char)byte;
            text += 2;
        }
        to++;
    }
    if (path) *to = '\0';
    return path;
}

static void take_line(pil_compiler *c, const char *line, size_t n) {
    pil_json *json;
    if (pil_json_parse(&json, line, n, NULL, NULL)) return;
    const char *path = pil_json_string(pil_json_get(json, "path"), NULL);
    const pil_json *error = pil_json_get(json, "error");
    int64_t done = pil_json_int_or(pil_json_get(json, "done"), -1),
            total = pil_json_int_or(pil_json_get(json, "total"), -1);
    if (path && !c->path) {
        c->path = path_of(path);
    } else if (error && !c->error.code) {
        int64_t status = pil_json_int_or(pil_json_get(error, "status"), PILLION_E_INTERNAL);
        if (status >= 0 || status < PILLION_E_UNAVAILABLE) status = PILLION_E_INTERNAL;
        pil_err_set(&c->error, (pillion_status)status, "%s",
                    pil_json_string_or(pil_json_get(error, "text"), "the model cannot be compiled"));
    } else if (done >= 0 && total >= done) {
        c->pool->info.prepare_done = (uint64_t)done;
        c->pool->info.prepare_total = (uint64_t)total;
        pil_pool_compiled(c->pool, true);
    }
    pil_json_free(json);
}

static void ended(pil_compiler *c) {
    if (pil_compiler_is_running(c)) return;
    if (!c->path && !c->error.code) {
        if (c->status || c->term_signal)
            pil_err_set(&c->error, PILLION_E_INTERNAL, "the model could not be compiled: exit status %d, signal %d",
                        c->status, c->term_signal);
        else pil_err_set(&c->error, PILLION_E_INTERNAL, "the model could not be compiled: its compiler said nothing");
    }
    pil_pool_compiled(c->pool, false);
}

static void on_bytes(pil_stream *stream, const char *bytes, size_t n, void *ud) {
    pil_compiler *c = ud;
    if (n == 0 || pil_buf_append(&c->line, bytes, n)) { /* its end, or a line without one */
        pil_stream_close(stream);
        c->output = NULL;
        ended(c);
        return;
    }
    for (char *end; (end = memchr(c->line.bytes, '\n', c->line.len));) {
        size_t line = (size_t)(end - c->line.bytes);
        take_line(c, c->line.bytes, line);
        c->line.len -= line + 1;
        memmove(c->line.bytes, end + 1, c->line.len);
    }
}

static void on_exit_of(int status, int term_signal, void *ud) {
    pil_compiler *c = ud;
    c->child = NULL;
    c->status = status;
    c->term_signal = term_signal;
    ended(c);
}

pillion_status pil_compiler_start(pil_compiler *c, pillion_error *err) {
    pil_pool *p = c->pool;
    char precision[32], source[4200];
    snprintf(precision, sizeof precision, "--precision=%d", (int)p->precision);
    snprintf(source, sizeof source, "--source=%s", p->directory);
    const char *const argv[] = {"pillion", "--role=prepare", precision, source, NULL};
    const pil_child_spec spec = {.program = p->program,
                                 .argv = argv,
                                 .envp = (const char *const *)p->compiler_env,
                                 .stdin_fd = -1,
                                 .out = &c->output,
                                 .on_exit = on_exit_of,
                                 .ud = c};
    free(c->path);
    c->path = NULL;
    c->error = (pillion_error){0};
    c->status = c->term_signal = 0;
    pil_buf_deinit(&c->line);
    pil_buf_init(&c->line, LINE_MAX_BYTES);
    pillion_status st = pil_child_start(&c->child, p->loop, &spec, err);
    if (st) return st;
    pil_stream_watch(c->output, on_bytes, NULL, c);
    pil_stream_read_start(c->output);
    return PILLION_OK;
}

void pil_compiler_deinit(pil_compiler *c) {
    pil_child_forget(c->child);
    pil_child_kill(c->child, SIGKILL);
    pil_stream_close(c->output);
    pil_buf_deinit(&c->line);
    free(c->path);
}
