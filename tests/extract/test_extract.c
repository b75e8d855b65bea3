/* test_extract.c - the role around the tools: arguments, limits, the cage, deadlines and tools that misbehave.
 *
 * The tools are stand-ins (fake_tool.c) that obey the document, so every way of failing can be had at will. */
#include "harness.h"

static char fake_dir[PIL_TEST_PATH], *real_path;

static int make_fakes(void **state) {
    (void)state;
    static const char *const names[] = {"pdfinfo", "pdftotext", "pdftoppm", "tesseract"};
    pil_test_dir_make(fake_dir);
    real_path = strdup(getenv("PATH"));
    for (int i = 0; i < 4; i++) {
        char link[PIL_TEST_PATH];
        pil_test_path(link, fake_dir, names[i]);
        assert_int_equal(symlink(PIL_FAKE_TOOL, link), 0);
    }
    setenv("PILLION_TEST_SECRET", "must not reach a tool", 1);
    return 0;
}

static int remove_fakes(void **state) {
    (void)state;
    pil_test_dir_remove(fake_dir);
    free(real_path);
    return 0;
}

static int use_fakes(void **state) {
    (void)state;
    return setenv("PATH", fake_dir, 1);
}

/* ── Arguments and the document ─────────────────────────────────────────────────────────────────────────────── */

static void wrong_arguments_are_usage_errors(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "text",
        "text doc",
        "text pdf more",
        "pdf",
        "ocr-detect pdf",
        "ocr-extract",
        "ocr-extract en",
        "ocr-extract en slow",
        "ocr-extract en fast more",
        "--timeout-ms= text txt",
        "--timeout-ms=0 text txt",
        "--timeout-ms=-5 text txt",
        "--timeout-ms=5s text txt",
        "--timeout-ms=600001 text txt",
        "--timeout-ms=99999999999999999999 text txt",
        "--verbose text txt",
        "--role=worker text txt",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) expect_code(run_on_text(wrong[i], "x"), "usage");
    static const char *const pages[] = {"x"};
    expect_pages(run_on_text("--role=extract --timeout-ms=600000 text txt", "x"), 1, pages);
    expect_pages(run_on_text("--timeout-ms=1000 --role=extract text txt", "x"), 1, pages);
}

static void codes_have_names_and_paths_have_types(void **state) {
    (void)state;
    for (int i = 0; i < PIL_EXTRACT_CODE_COUNT; i++)
        assert_int_equal(pil_extract_code_of(pil_extract_code_name((pil_extract_code)i)), i);
    assert_int_equal(pil_extract_code_of("no such code"), PIL_EXTRACT_INTERNAL);
    assert_int_equal(pil_extract_code_of(NULL), PIL_EXTRACT_INTERNAL);
    assert_string_equal(pil_extract_type_of("/a/b.pdf"), "pdf");
    assert_string_equal(pil_extract_type_of("B.PdF"), "pdf");
    assert_string_equal(pil_extract_type_of(".txt"), "txt");
    assert_string_equal(pil_extract_type_of("notes.TXT"), "txt");
    assert_null(pil_extract_type_of("a.pdf.gz"));
    assert_null(pil_extract_type_of("pdf"));
    assert_null(pil_extract_type_of("a.md"));
    assert_null(pil_extract_type_of(""));
}

static void a_txt_is_one_page_without_its_invalid_bytes(void **state) {
    (void)state;
    static const char raw[] = "\xef\xbb\xbfGr\xc3\xbc\xc3\x9f" "e\xff \xed\xa0\x80" "caf\xc3\xa9\0end\xe2\x82";
    answer a = run_on("text txt", raw, sizeof raw - 1);
    size_t n;
    const char *page = pil_json_string(pil_json_at(pil_json_get(a.root, "pages"), 0), &n);
    static const char kept[] = "\xef\xbb\xbfGr\xc3\xbc\xc3\x9f" "e caf\xc3\xa9\0end";
    assert_int_equal(n, sizeof kept - 1);
    assert_memory_equal(page, kept, n);
    assert_string_equal(answer_string(&a, "sandbox"), "none"); /* in this process; see the role itself below */
    free_answer(&a);
    static const char *const empty[] = {""}, *const blank[] = {" \n\t "};
    expect_pages(run_on("text txt", "", 0), 1, empty);
    expect_pages(run_on("text txt", "\xff\xfe\x80", 3), 1, empty);
    expect_pages(run_on_text("text txt", " \n\t "), 1, blank);
}

static void a_document_that_is_no_plain_file_is_refused(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    expect_code(run_here("text txt", ends[0]), "unreadable");
    close(ends[0]);
    close(ends[1]);
    static const char *const paths[] = {"/dev/zero", "/dev/null", "/tmp"};
    for (int i = 0; i < 3; i++) {
        int fd = open(paths[i], O_RDONLY);
        expect_code(run_here("text txt", fd), "unreadable");
        close(fd);
    }
    expect_code(run_here("text txt", 999), "unreadable");
    int writable = open("/tmp/pillion-test-writable", O_RDWR | O_CREAT, 0600);
    unlink("/tmp/pillion-test-writable");
    expect_code(run_here("text txt", writable), "usage");
    close(writable);
}

/* A sparse file of n bytes, open for reading only. */
static int sparse(size_t n) {
    char path[] = "/tmp/pillion-sparse-XXXXXX";
    int out = mkstemp(path), in = open(path, O_RDONLY);
    assert_int_equal(ftruncate(out, (off_t)n), 0);
    close(out);
    unlink(path);
    return in;
}

static void sizes_are_taken_up_to_their_limit_and_not_beyond(void **state) {
    (void)state;
    int fd = sparse(PIL_LIMIT_DOCUMENT_BYTES + 1);
    answer a = run_here("text pdf", fd);
    assert_true(a.ms < 1000);
    expect_code(a, "too_large");
    close(fd);

    char *text = malloc(PIL_LIMIT_DOCUMENT_TEXT + 1);
    assert_non_null(text);
    memset(text, 'a', PIL_LIMIT_DOCUMENT_TEXT + 1);
    a = run_on("text txt", text, PIL_LIMIT_DOCUMENT_TEXT);
    assert_int_equal(a.status, 0);
    assert_int_equal(strlen(answer_page(&a, 0)), PIL_LIMIT_DOCUMENT_TEXT);
    free_answer(&a);
    expect_code(run_on("text txt", text, PIL_LIMIT_DOCUMENT_TEXT + 1), "too_large");
    memset(text, 1, PIL_LIMIT_DOCUMENT_TEXT); /* each byte is six in JSON, so the answer is over its ceiling */
    expect_code(run_on("text txt", text, PIL_LIMIT_DOCUMENT_TEXT), "too_large");
    free(text);
}

static void a_missing_tool_names_its_package(void **state) {
    (void)state;
    static const struct {
        const char *arguments, *package;
    } cases[] = {
        {"text pdf", "poppler-utils"}, {"ocr-detect", "poppler-utils"}, {"ocr-extract en-US fast", "poppler-utils"}};
    setenv("PATH", "/nonexistent:relative:", 1);
    for (int i = 0; i < 3; i++) {
        answer a = run_on_text(cases[i].arguments, "x");
        assert_string_equal(answer_package(&a), cases[i].package);
        expect_code(a, "not_installed");
    }
    static const char *const pages[] = {"x"};
    expect_pages(run_on_text("text txt", "x"), 1, pages); /* needs none */

    char only[PIL_TEST_PATH], link[PIL_TEST_PATH];
    pil_test_path(only, fake_dir, "poppler");
    assert_int_equal(mkdir(only, 0700), 0);
    static const char *const poppler[] = {"pdfinfo", "pdftotext", "pdftoppm"};
    for (int i = 0; i < 3; i++) {
        pil_test_path(link, only, poppler[i]);
        assert_int_equal(symlink(PIL_FAKE_TOOL, link), 0);
    }
    setenv("PATH", only, 1);
    answer a = run_on_text("ocr-extract en-US fast", "x");
    assert_string_equal(answer_package(&a), "tesseract-ocr");
    expect_code(a, "not_installed");
}

static void a_language_is_mapped_or_refused_or_its_package_named(void **state) {
    (void)state;
    static const struct {
        const char *tag, *package; /* NULL: no such language; "": installed */
    } cases[] = {
        {"en-US", ""}, {"EN", ""}, {"en", ""}, {"eng", ""}, {"en-GB-oxendict", ""},
        {"de-DE", "tesseract-ocr-deu"}, {"zh-CN", "tesseract-ocr-chi-sim"}, {"zh-Hant-HK", "tesseract-ocr-chi-tra"},
        {"zh-TW", "tesseract-ocr-chi-tra"}, {"sr-Latn-RS", "tesseract-ocr-srp-latn"}, {"sr", "tesseract-ocr-srp"},
        {"pt-BR", "tesseract-ocr-por"}, {"fil", "tesseract-ocr-fil"}, {"deu", "tesseract-ocr-deu"},
        {"xx", NULL}, {"e", NULL}, {"english", NULL}, {"en_US", NULL}, {"../../etc/passwd", NULL}, {"-l", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char arguments[100];
        snprintf(arguments, sizeof arguments, "ocr-extract %s accurate", cases[i].tag);
        answer a = run_on_text(arguments, "pdfinfo say Pages: 0\n");
        const char *package = answer_package(&a);
        if (!cases[i].package) assert_string_equal(answer_code(&a), "language");
        else if (!*cases[i].package) assert_int_equal(a.status, 0);
        else if (strcmp(package, cases[i].package) != 0) fail_msg("%s: %s", cases[i].tag, package);
        free_answer(&a);
    }
}

/* ── What tools answer ──────────────────────────────────────────────────────────────────────────────────────── */

static void pages_are_told_apart_by_form_feeds(void **state) {
    (void)state;
    static const char *const pages[] = {"one", "", "three\nlines\n\nhere"};
    expect_pages(run_on_text("text pdf",
                             "pdfinfo say Pages: 3\npdftotext say  one \\n\\n\\f \\n\\fthree\\nlines\\n\\nhere\\n\\f"),
                 3, pages);
}

static void the_page_count_is_not_taken_from_a_title(void **state) {
    (void)state;
    static const char *const pages[] = {"page 1", "page 2"};
    expect_pages(run_on_text("text pdf", "pdfinfo say Title: x\\nPages: 9000\\nPages:  2\\nPage size: 1\\n\n"
                                         "pdftotext page 1\npdftotext page 2\n"),
                 2, pages);
}

static void a_wrong_number_of_form_feeds_means_one_run_for_each_page(void **state) {
    (void)state;
    answer a =
        run_on_text("text pdf", "pdfinfo say Pages: 3\npdftotext page 1\npdftotext page 3\n"); /* none for page 2 */
    assert_int_equal(a.status, 0);
    assert_string_equal(answer_page(&a, 0), "page 1");
    assert_string_equal(answer_page(&a, 1), "");
    assert_string_equal(answer_page(&a, 2), "page 3");
    assert_int_equal(pil_json_count(pil_json_get(a.root, "failed_pages")), 1);
    assert_int_equal(answer_failed_page(&a, 0), 2);
    free_answer(&a);
}

static void a_page_that_kills_the_tool_is_empty_and_reported_and_the_others_are_read(void **state) {
    (void)state;
    answer a =
        run_on_text("text pdf", "pdfinfo say Pages: 3\npdftotext crash-on 2\npdftotext page 1\npdftotext page 3\n");
    assert_int_equal(a.status, 0);
    assert_string_equal(answer_page(&a, 0), "page 1");
    assert_string_equal(answer_page(&a, 1), "");
    assert_string_equal(answer_page(&a, 2), "page 3");
    assert_int_equal(pil_json_count(pil_json_get(a.root, "failed_pages")), 1);
    assert_int_equal(answer_failed_page(&a, 0), 2);
    free_answer(&a);
    expect_code(run_on_text("text pdf", "pdfinfo say Pages: 3\npdftotext crash\n"), "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo say Pages: 3\npdftotext exit 1\n"), "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo say Pages: 1\npdftotext complain Out of memory\npdftotext page 1\n"),
                "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo crash\n"), "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo exit 1\n"), "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo say nothing useful\n"), "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo flood\n"), "unreadable");
    expect_code(run_on_text("text pdf", "pdfinfo complain Command Line Error: Incorrect password\npdfinfo exit 1\n"),
                "encrypted");
    expect_code(run_on_text("text pdf", "pdfinfo say Pages: 10001\n"), "too_large");
    expect_code(run_on_text("ocr-extract en fast", "pdfinfo say Pages: 501\n"), "too_large");
}

static void invalid_utf8_from_a_tool_is_dropped(void **state) {
    (void)state;
    static const char *const pages[] = {"ab", "c"};
    expect_pages(run_on_text("text pdf", "pdfinfo say Pages: 2\npdftotext say \\xa\\xb\\x\\n\\f\\xc\\f"), 2, pages);
}

static void a_scan_has_less_than_fifty_letters_on_a_page(void **state) {
    (void)state;
    static const char fifty[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char umlauts[] = "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü"; /* 49, twice as many bytes */
    static const struct {
        const char *first, *second;
        bool scanned;
    } cases[] = {{fifty, fifty, false},
                 {fifty, fifty + 1, true},
                 {"", "", true},
                 {umlauts, umlauts, true},
                 {fifty, umlauts, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char script[600];
        snprintf(script, sizeof script, "pdfinfo say Pages: 2\npdftotext say %s\\n\\n\\f%s\\n\\f", cases[i].first,
                 cases[i].second);
        answer a = run_on_text("ocr-detect", script);
        assert_int_equal(a.status, 0);
        assert_int_equal(pil_json_bool_or(pil_json_get(a.root, "is_scanned"), !cases[i].scanned), cases[i].scanned);
        assert_int_equal(pil_json_int_or(pil_json_get(a.root, "page_count"), -1), 2);
        assert_null(pil_json_get(a.root, "pages"));
        free_answer(&a);
    }
    answer none = run_on_text("ocr-detect", "pdfinfo say Pages: 0\n");
    assert_true(pil_json_bool_or(pil_json_get(none.root, "is_scanned"), false));
    assert_int_equal(pil_json_int_or(pil_json_get(none.root, "page_count"), -1), 0);
    free_answer(&none);
}

/* pdftoppm draws what is then tesseract's script: so both are told by the one document. */
#define TAB "\\\\t"
#define WORD(level, confidence, text)                                                                              \
    level TAB "1" TAB "1" TAB "1" TAB "1" TAB "1" TAB "0" TAB "0" TAB "9" TAB "9" TAB confidence TAB text "\\\\n"

static void confidence_is_the_mean_of_words_and_then_of_pages(void **state) {
    (void)state;
    answer a =
        run_on_text("ocr-extract en-US accurate",
                    "pdfinfo say Pages: 2\npdftoppm say tesseract say level\\\\tpage\\\\n" WORD("1", "-1", "")
                        WORD("5", "90", "two") WORD("4", "-1", "") WORD("5", "70.5", "words") WORD("5", "99", " ")
                            WORD("5", "-1", "unsure") WORD("5", "nan", "odd") "5\\\\tcut short\\\\n5");
    assert_int_equal(a.status, 0);
    assert_string_equal(answer_page(&a, 0), "two words");
    assert_string_equal(answer_page(&a, 1), "two words");
    assert_string_equal(answer_string(&a, "text"), "two words\n\ntwo words");
    double confidence = pil_json_real_or(pil_json_get(a.root, "confidence"), -1);
    assert_true(confidence > 0.8024 && confidence < 0.8026);
    assert_null(pil_json_get(a.root, "failed_pages"));
    free_answer(&a);
    a = run_on_text("ocr-extract en-US fast", "pdfinfo say Pages: 1\npdftoppm say tesseract say level\\\\n");
    assert_int_equal(a.status, 0);
    assert_string_equal(answer_string(&a, "text"), "");
    assert_true(pil_json_real_or(pil_json_get(a.root, "confidence"), -1) == 0);
    free_answer(&a);
}

static void a_page_that_cannot_be_drawn_or_recognised_is_reported(void **state) {
    (void)state;
    answer a =
        run_on_text("ocr-extract en-US fast",
                    "pdfinfo say Pages: 2\npdftoppm crash-on 1\npdftoppm say tesseract say " WORD("5", "80", "kept"));
    assert_int_equal(a.status, 0);
    assert_string_equal(answer_page(&a, 0), "");
    assert_string_equal(answer_page(&a, 1), "kept");
    assert_int_equal(answer_failed_page(&a, 0), 1);
    assert_true(pil_json_real_or(pil_json_get(a.root, "confidence"), -1) == 0.4);
    free_answer(&a);
    expect_code(run_on_text("ocr-extract en fast", "pdfinfo say Pages: 1\npdftoppm draw 100000000\n"), "unreadable");
    expect_code(run_on_text("ocr-extract en fast", "pdfinfo say Pages: 1\npdftoppm exit 0\n"), "unreadable");
    expect_code(run_on_text("ocr-extract en fast", "pdfinfo say Pages: 1\npdftoppm say tesseract crash\n"),
                "unreadable");
    expect_code(run_on_text("ocr-extract en fast", "pdfinfo say Pages: 1\npdftoppm say tesseract flood\n"),
                "unreadable");
}

/* ── Limits, deadlines and the end ──────────────────────────────────────────────────────────────────────────── */

static void tools_that_do_not_end_are_killed_at_the_deadline(void **state) {
    (void)state;
    static const char *const scripts[] = {"pdfinfo hang\n",
                                          "pdfinfo silent-hang\n",
                                          "pdfinfo babble\n",
                                          "pdfinfo spin\n",
                                          "pdfinfo say Pages: 2\npdftotext hang\n",
                                          "pdfinfo say Pages: 2\npdftotext page 1\npdftotext hang-on 2\n"};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        answer a = run_on_text("--timeout-ms=300 text pdf", scripts[i]);
        assert_true(a.ms >= 299);
        assert_true(a.ms < 5000);
        expect_code(a, "timeout");
    }
    expect_code(run_on_text("--timeout-ms=400 ocr-extract en fast", "pdfinfo say Pages: 1\npdftoppm hang\n"),
                "timeout");
    expect_code(
        run_on_text("--timeout-ms=400 ocr-extract en fast", "pdfinfo say Pages: 1\npdftoppm say tesseract hang\n"),
        "timeout");
}

static void a_flood_of_text_is_cut_off(void **state) {
    (void)state;
    answer a = run_on_text("text pdf", "pdfinfo say Pages: 1\npdftotext flood\n");
    assert_true(a.ms < 10000);
    expect_code(a, "too_large");
}

static void a_tool_in_the_cage_can_do_nothing_but_read_and_answer(void **state) {
    (void)state;
    pil_sandbox_report here;
    pil_sandbox_probe(&here);
    if (pil_sandbox_state_of(&here) != PIL_SANDBOX_FULL) skip_with("the sandbox is partial here");
    answer a = run_on_text("text pdf", "pdfinfo say Pages: 1\npdftotext break-out\n");
    assert_int_equal(a.status, 0);
    assert_string_equal(answer_page(&a, 0),
                        "read:denied list:denied write:denied socket:denied fork:denied signal:denied "
                        "session:denied descriptors:0 secrets:0 exec:denied");
    free_answer(&a);
}

static void a_tool_has_no_more_memory_than_its_limit(void **state) {
    (void)state;
    answer a = run_on_text("text pdf", "pdfinfo say Pages: 1\npdftotext eat\n");
    assert_int_equal(a.status, 0);
    int mib = 0;
    assert_int_equal(sscanf(answer_page(&a, 0), "memory:%d", &mib), 1);
    assert_in_range(mib, 32, (int)(PIL_LIMIT_PARSER_MEMORY / PIL_MIB));
    free_answer(&a);
}

static void the_role_reports_its_cage_and_answers_once(void **state) {
    (void)state;
    need_one_thread();
    pil_sandbox_report here;
    char line[PIL_SANDBOX_LINE];
    pil_sandbox_probe(&here);
    pil_sandbox_describe(&here, line, sizeof line);
    static const struct {
        const char *arguments, *script;
    } cases[] = {{"--role=extract text txt", "plain"},
                 {"--role=extract text pdf", "pdfinfo say Pages: 1\npdftotext page 1\n"},
                 {"--role=extract ocr-detect", "pdfinfo say Pages: 1\npdftotext page 1\n"},
                 {"--role=extract ocr-extract en fast",
                  "pdfinfo say Pages: 1\npdftoppm say tesseract say " WORD("5", "80", "kept")}};
    for (int i = 0; i < 4; i++) {
        int document = document_of(cases[i].script, strlen(cases[i].script));
        answer a = run_child(cases[i].arguments, document);
        close(document);
        if (a.status != 0) fail_msg("%s: %s", cases[i].arguments, answer_code(&a));
        assert_string_equal(answer_string(&a, "sandbox"), line);
        free_answer(&a);
    }
    int document = document_of("x", 1);
    expect_code(run_child("--role=extract nonsense", document), "usage");
    expect_code(run_child("--role=extract ocr-extract qq fast", document), "language");
    close(document);
}

/* The process that has this one as its parent; 0 when there is none. */
static pid_t child_of(pid_t parent) {
    DIR *proc = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *e; proc && !found && (e = readdir(proc));) {
        char path[300], text[512] = "";
        int pid = (int)strtol(e->d_name, NULL, 10), ppid;
        if (pid <= 0) continue;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        const char *end = fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
        if (end && sscanf(end + 1, " %*c %d", &ppid) == 1 && ppid == (int)parent) found = pid;
        fclose(f);
    }
    if (proc) closedir(proc);
    return found;
}

/* Gone, or a zombie that whoever adopted it has not reaped yet. */
static bool is_dead(pid_t pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return true;
    int n = fscanf(f, "%*d (%*[^)]) %c", &state);
    fclose(f);
    return n != 1 || state == 'Z' || state == 'X';
}

static bool is_named(pid_t pid, const char *name) {
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool same = fgets(text, sizeof text, f) && strncmp(text, name, strlen(name)) == 0;
    fclose(f);
    return same;
}

/* Waits until the role has started its tool. */
static pid_t tool_of(pid_t role) {
    pid_t tool;
    uint64_t start = pil_clock_ns();
    while (!(tool = child_of(role)) || !is_named(tool, "pil_fake_tool")) {
        if (pil_clock_ms(start) > 5000) fail_msg("the tool was not started");
        usleep(2000);
    }
    return tool;
}

static void killing_the_role_kills_its_tool(void **state) {
    (void)state;
    need_one_thread();
    if (access("/proc/self/stat", R_OK) != 0) skip_with("no /proc");
    int document = document_of("pdfinfo hang\n", 13), answers, status;
    pid_t role = start_child("text pdf", document, &answers), tool = tool_of(role);
    assert_int_equal(kill(role, SIGKILL), 0);
    assert_int_equal(waitpid(role, &status, 0), role);
    uint64_t start = pil_clock_ns();
    while (!is_dead(tool) && pil_clock_ms(start) < 1000) usleep(1000);
    assert_true(is_dead(tool));
    char byte;
    assert_int_equal(read(answers, &byte, 1), 0); /* nothing was answered, and nobody holds the pipe */
    close(answers);
    close(document);
}

/* Ctrl-C reaches every process of a terminal: a server that answers what it has must find its readers alive. */
static void signals_that_end_the_server_do_not_end_the_role(void **state) {
    (void)state;
    need_one_thread();
    if (access("/proc/self/stat", R_OK) != 0) skip_with("no /proc");
    int document = document_of("pdfinfo hang\n", 13), answers, status;
    pid_t role = start_child("--timeout-ms=1500 text pdf", document, &answers);
    tool_of(role);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) assert_int_equal(kill(role, signals[i]), 0);
    assert_int_equal(waitpid(role, &status, 0), role);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    char text[256] = "";
    assert_true(read(answers, text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "\"timeout\""));
    close(answers);
    close(document);
}

static void the_role_and_its_tools_give_way_to_others(void **state) {
    (void)state;
    need_one_thread();
    if (access("/proc/self/stat", R_OK) != 0) skip_with("no /proc");
    int document = document_of("pdfinfo hang\n", 13), answers, status;
    pid_t role = start_child("text pdf", document, &answers), tool = tool_of(role);
    assert_in_range(getpriority(PRIO_PROCESS, (id_t)role), PIL_CHILD_NICE, 19);
    assert_in_range(getpriority(PRIO_PROCESS, (id_t)tool), PIL_CHILD_NICE, 19);
    assert_int_equal(kill(role, SIGKILL), 0);
    assert_int_equal(waitpid(role, &status, 0), role);
    close(answers);
    close(document);
}

static void a_role_whose_answer_nobody_reads_does_not_begin(void **state) {
    (void)state;
    need_one_thread();
    int document = document_of("pdfinfo hang\n", 13), ends[2], status;
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    char words[] = "--timeout-ms=10000 text pdf", *argv[16];
    int argc = split_arguments(words, argv);
    uint64_t start = pil_clock_ns();
    pid_t role = fork();
    if (role == 0) {
        dup2(document, 0);
        dup2(ends[1], 1);
        _exit(pil_extract_main(argc, argv));
    }
    close(ends[1]);
    assert_int_equal(waitpid(role, &status, 0), role);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_true(pil_clock_ms(start) < 5000);
    close(document);
}

static void nothing_is_left_in_the_folder_for_temporary_files(void **state) {
    (void)state;
    DIR *tmp = opendir("/tmp");
    assert_non_null(tmp);
    for (struct dirent *e; (e = readdir(tmp));) {
        if (strncmp(e->d_name, "pillion-page", 12) == 0) fail_msg("%s", e->d_name);
        if (strncmp(e->d_name, "pillion-broke", 13) == 0) fail_msg("%s", e->d_name);
    }
    closedir(tmp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(wrong_arguments_are_usage_errors, use_fakes),
        cmocka_unit_test_setup(codes_have_names_and_paths_have_types, use_fakes),
        cmocka_unit_test_setup(a_txt_is_one_page_without_its_invalid_bytes, use_fakes),
        cmocka_unit_test_setup(a_document_that_is_no_plain_file_is_refused, use_fakes),
        cmocka_unit_test_setup(sizes_are_taken_up_to_their_limit_and_not_beyond, use_fakes),
        cmocka_unit_test_setup(a_missing_tool_names_its_package, use_fakes),
        cmocka_unit_test_setup(a_language_is_mapped_or_refused_or_its_package_named, use_fakes),
        cmocka_unit_test_setup(pages_are_told_apart_by_form_feeds, use_fakes),
        cmocka_unit_test_setup(the_page_count_is_not_taken_from_a_title, use_fakes),
        cmocka_unit_test_setup(a_wrong_number_of_form_feeds_means_one_run_for_each_page, use_fakes),
        cmocka_unit_test_setup(a_page_that_kills_the_tool_is_empty_and_reported_and_the_others_are_read, use_fakes),
        cmocka_unit_test_setup(invalid_utf8_from_a_tool_is_dropped, use_fakes),
        cmocka_unit_test_setup(a_scan_has_less_than_fifty_letters_on_a_page, use_fakes),
        cmocka_unit_test_setup(confidence_is_the_mean_of_words_and_then_of_pages, use_fakes),
        cmocka_unit_test_setup(a_page_that_cannot_be_drawn_or_recognised_is_reported, use_fakes),
        cmocka_unit_test_setup(tools_that_do_not_end_are_killed_at_the_deadline, use_fakes),
        cmocka_unit_test_setup(a_flood_of_text_is_cut_off, use_fakes),
        cmocka_unit_test_setup(a_tool_in_the_cage_can_do_nothing_but_read_and_answer, use_fakes),
        cmocka_unit_test_setup(a_tool_has_no_more_memory_than_its_limit, use_fakes),
        cmocka_unit_test_setup(the_role_reports_its_cage_and_answers_once, use_fakes),
        cmocka_unit_test_setup(killing_the_role_kills_its_tool, use_fakes),
        cmocka_unit_test_setup(signals_that_end_the_server_do_not_end_the_role, use_fakes),
        cmocka_unit_test_setup(the_role_and_its_tools_give_way_to_others, use_fakes),
        cmocka_unit_test_setup(a_role_whose_answer_nobody_reads_does_not_begin, use_fakes),
        cmocka_unit_test_setup(nothing_is_left_in_the_folder_for_temporary_files, use_fakes),
    };
    return cmocka_run_group_tests_name("extract", tests, make_fakes, remove_fakes);
}
