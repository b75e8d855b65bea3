/* main.c - the program's entry: finds the command and runs it.
 *
 * Flow:     --role=NAME (a child process of the server, cmd.h has the list) -> *.py (started as the Python sidecar is:
 *           serve) -> --version, --help -> the command by its name.
 * Not here: what the commands do (cmd_*.c), how options are read (options.c). Tests: tests/cmd/test_usage.py. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/help.h"
#include "cmd/say.h"

static int print(void (*put)(pil_buf *)) {
    pil_buf out;
    pil_buf_init(&out, PIL_HELP_BYTES);
    put(&out);
    int status = pil_say_output("pillion", &out);
    pil_buf_deinit(&out);
    return status;
}

static void put_version(pil_buf *out) { pil_buf_printf(out, "pillion %s\n", pillion_version()); }

static int print_help(const char *who, const pil_command *command) {
    pil_buf out;
    pil_buf_init(&out, PIL_HELP_BYTES);
    pil_help_command(&out, command);
    int status = pil_say_output(who, &out);
    pil_buf_deinit(&out);
    return status;
}

/* argv holds what follows the command's name. Gives the exit status. */
static int run(const pil_command *command, int argc, char **argv) {
    pil_options options;
    pillion_error err = {0};
    char who[64];
    snprintf(who, sizeof who, "pillion %s", command->name);
    if (pil_options_parse(&options, command, argc, argv, &err)) {
        pil_say(who, "%s", err.text);
        return pil_exit_of(err.code);
    }
    int status = options.help ? print_help(who, command) : command->run(options.values, options.args, options.n_args);
    pil_options_deinit(&options);
    return status;
}

/* A file that is opened must never land on a closed standard descriptor, where messages or results would go into it.
 * What stands in fails as a closed one does: it is open for the wrong direction. */
static void fill_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return;
}

int main(int argc, char **argv) {
    fill_standard_descriptors();
    if (argc < 2) {
        pil_say("pillion", "a command is missing; try: echo hello | pillion embed, or: pillion --help");
        return PIL_EXIT_USAGE;
    }
    const char *first = argv[1];
    const pil_role *role = pil_role_find(first);
    if (role) {
        int status = role->run(argc, argv);
        if (role->caged) _exit(status);
        return status;
    }
    if (first[0] != '-' && pil_ends_with(first, ".py")) {
        const pil_command *serve = pil_command_find("serve");
        if (serve) return run(serve, argc - 1, argv + 1);
    }
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) return print(put_version);
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) return print(pil_help_program);
    const pil_command *command = pil_command_find(first);
    return command ? run(command, argc - 2, argv + 2) : pil_command_unknown(first);
}
