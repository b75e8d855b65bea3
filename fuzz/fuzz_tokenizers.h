/* fuzz_tokenizers.h - small tokenizers that between them use every component, for the fuzz targets of this room. */
#ifndef PIL_FUZZ_TOKENIZERS_H
#define PIL_FUZZ_TOKENIZERS_H

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "token/token.h"

#define FUZZ_TOKENIZERS 6

typedef struct fuzz_tokenizer {
    char *blob; /* aligned to 64 bytes, of exactly blob_bytes */
    size_t blob_bytes;
    pil_tokenizer *t;
    pil_token_scratch *s;
} fuzz_tokenizer;

#define FUZZ_ADDED                                                                                                   \
    "'added_tokens':[{'id':9,'content':'<s>','single_word':false,'lstrip':true,'rstrip':true,"                       \
    "'normalized':false,'special':true},{'id':9,'content':'ab','single_word':true,'lstrip':false,"                   \
    "'rstrip':false,'normalized':true,'special':false}],"
#define FUZZ_WORDPIECE                                                                                               \
    "'post_processor':{'type':'BertProcessing','sep':['s',2],'cls':['c',1]},"                                        \
    "'decoder':{'type':'WordPiece','prefix':'##','cleanup':true},"                                                   \
    "'model':{'type':'WordPiece','unk_token':'u','continuing_subword_prefix':'##',"                                  \
    "'max_input_chars_per_word':9,'vocab':{'u':0,'c':1,'s':2,'a':3,'##a':4,'##aa':5,'\\u00e9':6,"                    \
    "'##\\u4e2d':7,'\\u4e2d':8,',':9}}}"
#define FUZZ_UNIGRAM(byte_fallback)                                                                                  \
    "'post_processor':null,'decoder':{'type':'Sequence','decoders':[{'type':'Replace',"                              \
    "'pattern':{'String':'\\u2581'},'content':' '},{'type':'ByteFallback'},{'type':'Fuse'},"                         \
    "{'type':'Strip','content':' ','start':1,'stop':1}]},"                                                           \
    "'model':{'type':'Unigram','unk_id':0,'byte_fallback':" byte_fallback ",'vocab':[['<unk>',0],"                   \
    "['\\u2581',-2.5],['\\u2581a',-3.1],['a',-2.2],['aa',-3.3],['aaa',-4.4],['\\u00e9',-5],"                         \
    "['\\u4e2d\\u4e2d',-1e1],['<0x41>',-1],['<0xC3>',-1],['<0x80>',-1]]}}"
/* a character map: "A" to "bc", "B" to nothing */
#define FUZZ_PRECOMPILED                                                                                             \
    "{'type':'Precompiled','precompiled_charsmap':'"                                                      \
    "EAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"           \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"           \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"           \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACAQQUAAEIFAAACAACAYmMAAA=="                                   \
    "'}"

/* JSON with ' instead of ", which is easier to read in C. */
static inline const char *fuzz_tokenizer_json(size_t which) {
    static const char *const all[FUZZ_TOKENIZERS] = {
        "{" FUZZ_ADDED "'normalizer':{'type':'BertNormalizer','clean_text':true,'handle_chinese_chars':true,"
        "'strip_accents':null,'lowercase':true},'pre_tokenizer':{'type':'BertPreTokenizer'}," FUZZ_WORDPIECE,
        "{" FUZZ_ADDED "'normalizer':{'type':'BertNormalizer','clean_text':false,'handle_chinese_chars':false,"
        "'strip_accents':true,'lowercase':false},'pre_tokenizer':{'type':'Whitespace'}," FUZZ_WORDPIECE,
        "{" FUZZ_ADDED "'normalizer':{'type':'Sequence','normalizers':[{'type':'NFKC'},{'type':'Nmt'},"
        "{'type':'Strip','strip_left':true,'strip_right':true},{'type':'Replace','pattern':{'Regex':' {2,}'},"
        "'content':' '}," FUZZ_PRECOMPILED "]},'pre_tokenizer':{'type':'Metaspace','replacement':'\\u2581',"
        "'prepend_scheme':'first','split':true}," FUZZ_UNIGRAM("true"),
        "{" FUZZ_ADDED "'normalizer':" FUZZ_PRECOMPILED ",'pre_tokenizer':{'type':'Sequence','pretokenizers':["
        "{'type':'WhitespaceSplit'},{'type':'Metaspace','replacement':'\\u2581'}]}," FUZZ_UNIGRAM("false"),
        "{'normalizer':{'type':'Sequence','normalizers':[{'type':'NFKD'},{'type':'StripAccents'},"
        "{'type':'Lowercase'},{'type':'NFC'},{'type':'Prepend','prepend':'\\u2581'},{'type':'Replace',"
        "'pattern':{'String':' '},'content':'\\u2581'}]}," FUZZ_UNIGRAM("true"),
        "{'pre_tokenizer':{'type':'Sequence','pretokenizers':[{'type':'Digits','individual_digits':false},"
        "{'type':'Punctuation','behavior':'MergedWithNext'},{'type':'Metaspace','replacement':'_',"
        "'prepend_scheme':'always','split':false}]}," FUZZ_UNIGRAM("false"),
    };
    return all[which];
}

static inline bool fuzz_tokenizer_open(fuzz_tokenizer *f, size_t which) {
    char *json = strdup(fuzz_tokenizer_json(which));
    if (!json) return false;
    for (char *p = json; *p; p++)
        if (*p == '\'') *p = '"';
    pil_buf blob;
    pil_buf_init(&blob, PIL_MIB);
    pillion_status st = pil_tokenizer_compile(&blob, json, strlen(json), NULL);
    if (!st && (f->blob = aligned_alloc(64, blob.len))) { /* a blob's size is a multiple of 64 */
        memcpy(f->blob, blob.bytes, blob.len);
        f->blob_bytes = blob.len;
        st = pil_tokenizer_open(&f->t, f->blob, f->blob_bytes, NULL);
        if (!st) f->s = pil_token_scratch_create(f->t);
    }
    pil_buf_deinit(&blob);
    free(json);
    return f->s != NULL;
}

#endif
