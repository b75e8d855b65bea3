/* limits.h - every limit in one place, with its reason. Nothing else in the project holds a bare ceiling. */
#ifndef PIL_BASE_LIMITS_H
#define PIL_BASE_LIMITS_H

#include <stddef.h>

#define PIL_KIB ((size_t)1024)
#define PIL_MIB (1024 * PIL_KIB)
#define PIL_GIB (1024 * PIL_MIB)

/* Texts. */
#define PIL_LIMIT_TEXT_BYTES (4 * PIL_MIB)  /* one text: the tokenizer is linear, but nobody embeds 4 MiB at once */
#define PIL_LIMIT_TEXTS 4096                /* one request: 4,096 vectors of 1,024 values are 80 MB of JSON */
#define PIL_LIMIT_LINE_BYTES (8 * PIL_MIB)  /* one line of standard input: a JSON-escaped text of the limit above */
#define PIL_LIMIT_NORMALIZED_BYTES (64 * PIL_MIB) /* a text normalized: NFKD writes at most 11 bytes for one */
#define PIL_LIMIT_TEMPLATE 64               /* ids that a tokenizer's template puts on one side of a text */
#define PIL_LIMIT_TOKENIZER_STEPS 64         /* normalizers, or pre-tokenizers, or decoders, in a Sequence */
#define PIL_LIMIT_ADDED_TOKEN_BYTES 1024    /* one added token: matching costs at most that for each byte of text */
/* One token of a vocabulary: sentencepiece makes them of 16 characters, 64 bytes, unless told otherwise; BERT's longest
 * has 18. A byte of a text costs at most that many steps through the vocabulary: with the longest text some two
 * seconds, below PIL_LIMIT_WORKER_STALL_MS. */
#define PIL_LIMIT_TOKEN_BYTES 256
#define PIL_LIMIT_TOKENIZER_BYTES (256 * PIL_MIB) /* one section of a compiled tokenizer; the largest JSON is 128 MiB */
#define PIL_LIMIT_ADDED_TOKENS 16384        /* Gemma has about 6,400 */

/* JSON. */
#define PIL_LIMIT_JSON_VALUES 65536         /* of a request: 4,096 texts and room; each can cost 100 bytes of memory */
#define PIL_LIMIT_JSON_DEPTH 32             /* no protocol nests deeper than 6; recursion is bounded by this */
#define PIL_LIMIT_JSON_FILE (128 * PIL_MIB) /* the largest tokenizer.json in use is 35 MB (Gemma) */
/* Values of a tokenizer.json: a token of a Unigram vocabulary counts as three, so this is the largest vocabulary and
 * room. A file of nothing but arrays costs up to 2 GB of memory; the limit of bytes alone would let it cost 6. */
#define PIL_LIMIT_TOKENIZER_VALUES 16000000
#define PIL_LIMIT_CONFIG_FILE (2 * PIL_MIB) /* config.json and its like: the largest is 1.2 MB (Gemma's tokenizer's) */
#define PIL_LIMIT_CONFIG_VALUES 262144      /* of such a file: the same one has 90,000; at most 30 MB of memory */
/* Of a JSON line with one text: a vector, or ids of tokens, may stand beside it; at most 30 MB of memory. */
#define PIL_LIMIT_LINE_VALUES 262144
#define PIL_LIMIT_RECORDED_VALUES 4000000   /* of a file of recorded texts: 32 bytes for each; 500 MB of memory */

/* HTTP. */
#define PIL_LIMIT_BODY_BYTES (32 * PIL_MIB)
#define PIL_LIMIT_REQUEST_LINE (8 * PIL_KIB)
#define PIL_LIMIT_HEADER_BYTES (16 * PIL_KIB)
#define PIL_LIMIT_HEADERS 100
#define PIL_LIMIT_CONNECTIONS 1024
#define PIL_LIMIT_TURNED_AWAY 64       /* connections beyond those that are told so in peace; more are cut off */
#define PIL_LIMIT_SPARE_DESCRIPTORS 32 /* that connections leave to workers, documents and refusals */
#define PIL_LIMIT_IN_FLIGHT_BYTES (512 * PIL_MIB) /* all requests and answers: four of the largest, 1,000 usual ones */
#define PIL_LIMIT_SMALL_BYTES (128 * PIL_KIB) /* one connection's part of it that is never refused: 128 MiB in all */
#define PIL_LIMIT_HEADER_MS 10000      /* for a request's header, and for each further window of its body */
#define PIL_LIMIT_BODY_BYTES_PER_MS 1  /* a body must not come slower than 1 kB/s in any such window */
#define PIL_LIMIT_STALL_MS 30000       /* the window in which a client must take a part of its answer */
#define PIL_LIMIT_ANSWER_BYTES_PER_MS 4 /* an answer must not be read slower than 4 kB/s in any such window */
#define PIL_LIMIT_IDLE_MS 75000        /* a connection between two requests; clients are told 5 s less */
#define PIL_LIMIT_SWEEP_MS 1000        /* how often the times above are looked at */
#define PIL_LIMIT_SECRET_BYTES (1 * PIL_KIB) /* a bearer token */
#define PIL_LIMIT_ANSWER_BYTES (512 * PIL_MIB) /* an answer: 10,000 chunks of a file with 4,096 values each */
#define PIL_LIMIT_ERRANDS 2            /* threads that parse what is large: each costs a core for 10 ms a MiB */
#define PIL_LIMIT_DOCUMENTS 2          /* documents read at once: each may cost a core for seconds */
#define PIL_LIMIT_RECOGNITIONS 1       /* of them scans: minutes, in which texts must not wait for them */
#define PIL_LIMIT_DOCUMENT_WAIT_MS 60000 /* a document before it is its turn: as long as a job without any answer */
#define PIL_LIMIT_ECHO_BYTES 256 /* of input in an error message: enough to recognise it by */

/* Files. */
/* Held in memory while it is read. 65,536 tensors with 500 bytes each; the reference reader takes 100 MB. */
#define PIL_LIMIT_SAFETENSORS_HEADER 33554432u
#define PIL_LIMIT_TENSORS 65536
#define PIL_LIMIT_SAFETENSORS_VALUES (PIL_LIMIT_TENSORS * 24) /* in a header: counted as JSON, 18 for a tensor */
#define PIL_LIMIT_SHARDS 1024
#define PIL_LIMIT_INDEX_FILE (32 * PIL_MIB) /* of shards: 65,536 tensors with 500 bytes for two names each */
#define PIL_LIMIT_INDEX_VALUES (4 * PIL_LIMIT_TENSORS) /* two for a tensor, and room */

/* Models. Ceilings that keep every product of two of them far from 2^63 and refuse absurd files early. */
#define PIL_LIMIT_LAYERS 256
#define PIL_LIMIT_HIDDEN 16384
#define PIL_LIMIT_FFN 65536
#define PIL_LIMIT_HEADS 256
#define PIL_LIMIT_VOCAB 4000000
#define PIL_LIMIT_POSITIONS 1048576
#define PIL_LIMIT_PROMPTS 64

/* Documents. They are parsed in caged children; what a child answers is bounded before the server reads it. */
#define PIL_LIMIT_DOCUMENT_BYTES (256 * PIL_MIB)     /* the file itself: a long scanned book */
#define PIL_LIMIT_DOCUMENT_TEXT (32 * PIL_MIB)       /* its text, in all: some 10,000 full pages */
#define PIL_LIMIT_DOCUMENT_PAGES 10000               /* a PDF may claim any number */
#define PIL_LIMIT_OCR_PAGES 500                      /* seconds for each page: 500 fill the time below */
#define PIL_LIMIT_EXTRACT_RESULT (64 * PIL_MIB)      /* the JSON answer: text of the limit above with its escapes */
#define PIL_LIMIT_EXTRACT_MS 20000                   /* the text of a document: milliseconds for each page and some */
#define PIL_LIMIT_OCR_MS 600000                      /* recognition of a whole document */
#define PIL_LIMIT_OCR_PAGE_MS 60000                  /* recognition of one page: 20 times the usual */
#define PIL_LIMIT_TOOL_WORDS (64 * PIL_KIB)          /* what a tool says about a document; the rest is dropped */
#define PIL_LIMIT_PARSER_MEMORY (256 * PIL_MIB)      /* address space of pdfinfo and pdftotext */
#define PIL_LIMIT_OCR_MEMORY (1024 * PIL_MIB)        /* address space of pdftoppm and tesseract: 200 dpi bitmaps */
#define PIL_LIMIT_OCR_IMAGE (64 * PIL_MIB)           /* one page as a grey bitmap: A2 at 200 dpi is 15 MiB */

/* Work. */
#define PIL_LIMIT_WORKERS 256             /* processes; more cores than this want more than one server */
/* Estimated tokens that wait before a job is refused. This bounds time, since a text counts as what its model reads of
 * it; memory is bounded by PIL_LIMIT_IN_FLIGHT_BYTES. */
#define PIL_LIMIT_QUEUE_TOKENS 8000000u
#define PIL_LIMIT_HOLD_MS 25000           /* how long a request waits for a model: below the 30 s of usual clients */
#define PIL_LIMIT_WORKER_MEMORY (512 * PIL_MIB) /* a worker's own memory: a large model's scratch is a tenth of it */
#define PIL_LIMIT_LOSSES 16               /* workers that may die under one job: 15 poison texts and one more */
#define PIL_LIMIT_QUEUE_BYTES (256 * PIL_MIB) /* texts of all unfinished jobs that are not short: eight large bodies */
#define PIL_LIMIT_QUEUE_MS 10000          /* work that waits, at the measured speed: a client's patience */
#define PIL_LIMIT_DEADLINE_MS 60000       /* a job without any answer: twice what usual clients wait */
#define PIL_LIMIT_TOTAL_MS 600000         /* a job in all: the largest request on a slow machine */
#define PIL_LIMIT_WORKER_STALL_MS 5000    /* a worker without progress: it reports every layer, some milliseconds */
#define PIL_LIMIT_START_MS 60000          /* a worker from its start to ready: a model on a slow disk */
#define PIL_LIMIT_START_APART_MS 1000     /* the first worker starts alone, which answers sooner; unless it is slow */
#define PIL_LIMIT_CANARY_MS 60000         /* between two canaries of a worker: how long it may compute wrong vectors */
#define PIL_LIMIT_RETIRE_MS 1000          /* a worker told to end has nothing left to do */
#define PIL_LIMIT_QUARANTINE_MS 86400000  /* a poison text: whoever repairs it will have restarted us */
#define PIL_LIMIT_QUARANTINE 1024         /* poison texts remembered: 100 KiB */

/* Frames between the server and a worker: a request of the largest body, or its vectors. */
#define PIL_LIMIT_FRAME_BYTES (256 * PIL_MIB)

#endif
