/* serve_reload.c - SIGHUP: options and token are read again; what may change does, what is wrong changes nothing.
 *
 * Flow:       parse everything anew, with the same command line -> token -> the server takes all of it or nothing.
 * Invariants: (1) one line of log for a refusal, and then every setting is the one from before. (2) values that may not
 *             change are those of the start, whatever the file says now. (3) a server that others can reach keeps a
 *             token unless it was started to serve everybody.
 * Tests:      tests/http/test_service.py. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/notify.h"
#include "cmd/serve.h"

/* Names what the file would change and only a new start can. */
static void name_unchanged(const pil_serve *s, const pil_serve_values *fresh) {
    char names[256] = "";
    for (const pil_option *o = pil_serve_options; o->name; o++) {
        if (o->live || pil_options_same(o, s->values, fresh)) continue;
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n ? "," : "", o->name);
    }
    if (names[0]) pil_log(PIL_LOG_WARN, "options that need a new start", "names=\"%s\"", names);
}

static pillion_status take(pil_serve *s, const pil_serve_values *fresh, pillion_error *err) {
    pil_token token = s->token;
    const pil_token old_token = s->token;
    const pil_serve_values *old = s->live;
    pillion_status st = PILLION_OK;
    if (!s->values->generate_token) st = pil_token_read(&token, fresh->token_file, err);
    if (st) return st;
    s->token = token;
    s->live = fresh;
    const pil_server_options so = pil_serve_server_options(s);
    st = pil_serve_check_reach(s, err); /* what is open to others stays so, and without a token it would be to all */
    if (!st) st = pil_server_reconfigure(s->server, &so, err);
    if (!st) return PILLION_OK;
    s->live = old;
    s->token = old_token;
    return st;
}

static void tell_begin(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pil_notify("RELOADING=1\nMONOTONIC_USEC=%llu",
               (unsigned long long)now.tv_sec * 1000000ull + (unsigned long long)now.tv_nsec / 1000ull);
}

void pil_serve_reload(pil_serve *s) {
    const pil_command_line *line = &s->values->line;
    pillion_error err = {0};
    pil_options options;
    if (s->was_ready) tell_begin();
    pillion_status st = pil_options_parse(&options, &pil_cmd_serve, line->argc, line->argv, &err);
    if (!st) {
        st = take(s, options.values, &err);
        if (st) pil_options_deinit(&options);
    }
    if (st) {
        pil_log(PIL_LOG_ERROR, "options refused, the old ones stay", "reason=\"%s\"", err.text);
    } else {
        pil_options_deinit(&s->reloaded);
        s->reloaded = options;
        pil_log_init((pil_log_level)s->live->log_level, "server");
        pil_serve_tell(s); /* the token may be another one */
        name_unchanged(s, s->live);
        pil_log(PIL_LOG_INFO, "options read again", "file=\"%s\"", s->values->config);
    }
    if (s->was_ready) pil_notify("READY=1");
}
