/* fake_tool.c - a stand-in for pdfinfo, pdftotext, pdftoppm and tesseract that does what the document tells it to.
 *
 * It runs inside the cage, so it is built without sanitizers. The document is read from descriptor 0: lines
 * "TOOL ACTION [ARGUMENT]", of which those of its own name are obeyed in their order. pdftoppm's bitmap becomes
 * tesseract's input, so what it draws is a script too. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long first_page = 1, last_page = 1;

static long number(const char *text) { return strtol(text, NULL, 10); }

static void hang(void) {
    for (;;) pause();
}

static void spin(void) {
    for (volatile unsigned long i = 0;; i++) continue;
}

static void pour(FILE *where) {
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (;;) fwrite(block, 1, sizeof block, where);
}

static void tell(const char *what, int allowed) { printf("%s:%s ", what, allowed ? "allowed" : "denied"); }

/* What a tool that a hostile document has taken over could do. */
static void break_out(void) {
    struct stat s;
    tell("read", open("/etc/passwd", O_RDONLY) >= 0);
    tell("list", open("/", O_RDONLY) >= 0);
    tell("write", open("/tmp/pillion-broke-out", O_WRONLY | O_CREAT, 0600) >= 0);
    tell("socket", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    pid_t child = fork();
    if (child == 0) _exit(0);
    tell("fork", child > 0);
    tell("signal", kill(getppid(), 0) == 0);
    tell("session", setsid() > 0);
    int extra = 0;
    for (int fd = 3; fd < 64; fd++) extra += fstat(fd, &s) == 0;
    printf("descriptors:%d secrets:%d ", extra, getenv("PILLION_TEST_SECRET") != NULL);
    fflush(stdout);
    execl("/bin/sh", "sh", "-c", "echo exec:allowed", (char *)NULL);
    tell("exec", 0);
}

/* The largest block that can be had, in MiB. */
static void eat(void) {
    size_t mib = 1;
    for (volatile char *p; mib < 65536 && (p = malloc(mib << 20)); mib *= 2) {
        p[0] = 1; /* or a compiler may leave out the block */
        free((void *)(uintptr_t)p);
    }
    printf("memory:%zu", mib / 2);
}

static void draw(const char *size) {
    size_t n = strtoul(size, NULL, 10);
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (size_t at = 0; at < n; at += sizeof block)
        if (write(1, block, sizeof block) < 0) _exit(1);
}

static void print_escaped(const char *text) {
    for (; *text; text++) {
        if (*text != '\\') putchar(*text);
        else if (*++text == 'n') putchar('\n');
        else if (*text == 'f') putchar('\f');
        else if (*text == 't') putchar('\t');
        else if (*text == '0') putchar('\0');
        else if (*text == '\\') putchar('\\');
        else if (*text == 'x') putchar(0xFF);
    }
}

static void obey(const char *action, const char *argument) {
    long page = number(argument);
    if (strcmp(action, "say") == 0) print_escaped(argument);
    else if (strcmp(action, "page") == 0 && page >= first_page && page <= last_page) printf("page %ld\n\f", page);
    else if (strcmp(action, "crash-on") == 0 && page >= first_page && page <= last_page) raise(SIGSEGV);
    else if (strcmp(action, "hang-on") == 0 && page >= first_page && page <= last_page) hang();
    else if (strcmp(action, "complain") == 0) fprintf(stderr, "%s\n", argument);
    else if (strcmp(action, "exit") == 0) exit((int)page);
    else if (strcmp(action, "hang") == 0) hang();
    else if (strcmp(action, "spin") == 0) spin();
    else if (strcmp(action, "crash") == 0) abort();
    else if (strcmp(action, "flood") == 0) pour(stdout);
    else if (strcmp(action, "babble") == 0) pour(stderr);
    else if (strcmp(action, "break-out") == 0) break_out();
    else if (strcmp(action, "eat") == 0) eat();
    else if (strcmp(action, "draw") == 0) draw(argument);
    else if (strcmp(action, "silent-hang") == 0) {
        close(1);
        close(2);
        signal(SIGTERM, SIG_IGN);
        hang();
    }
}

int main(int argc, char **argv) {
    static char script[1 << 16];
    size_t n = fread(script, 1, sizeof script - 1, stdin);
    script[n] = '\0';
    if (environ[0] && environ[1] && environ[2] && environ[3] && environ[4]) return 90;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "-f") == 0) first_page = number(argv[i + 1]);
        if (strcmp(argv[i], "-l") == 0) last_page = number(argv[i + 1]);
    }
    if (argc == 2 && strcmp(argv[1], "--list-langs") == 0) {
        puts("List of available languages (2):\neng\nosd");
        return 0;
    }
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    for (char *line = script, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        size_t own = strlen(name);
        if (strncmp(line, name, own) != 0 || line[own] != ' ') continue;
        char *action = line + own + 1, *argument = strchr(action, ' ');
        if (argument) *argument++ = '\0';
        obey(action, argument ? argument : "");
    }
    return 0;
}
