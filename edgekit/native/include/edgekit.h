/* The C API of edgekit's native library: open a model, evaluate tokens, sample, save and load sessions.
 *
 * edgekit_text.h adds text: tokenizer, conversations and generated answers. An application needs these two headers;
 * examples/c/chat.c is a complete program. edgekit_tools.h declares the functions used by edgekit's own builder, probe
 * and tests.
 *
 * Errors. A function that can fail returns an ek_status: EK_OK, or the kind of error. ek_last_error then describes the
 * error. After an error the outputs are undefined, and the state of a model or session is unchanged unless the function
 * says otherwise. No C++ exception leaves the library.
 *
 * Memory. The library does not keep a pointer to the caller's memory after a function has returned.
 *
 * Threads. All functions may be called from any thread. Any number of threads and sessions may share a model. Only one
 * call at a time may use a session, a stream or a watch: a second one returns EK_BUSY and changes nothing. Functions
 * that return a number, and ek_session_cancel, may be called at any time.
 *
 * Forks. A child process has none of the threads of its parent, so it cannot use the sessions of its parent: EK_FORKED.
 * It can free them, use open models and texts, and create sessions. A stream or a watch that a call of the parent was
 * using during the fork is EK_FORKED, too.
 *
 * Sessions with the same number of threads share one pool of threads. While several threads of the application evaluate
 * at the same time, each of them takes the place of a thread of the pool, so no more threads run than there are
 * processors. The same holds beside busy programs: if the system often stops a thread of the pool, the pool does
 * without that thread until the system runs it again.
 *
 * Files. The weights of an open model are mapped. Replace the file by renaming another one to its name; never write to
 * it. A call that finds that the file has been cut, or that cannot read a part of it, returns EK_BAD_FILE. The system
 * reports the latter with the signal SIGBUS. So the library installs a handler of this signal while a call evaluates
 * tokens or opens a model, and restores the handler of the application at the end. All signals that do not come from
 * mapped weights are passed on to the application's handler. Do not install another one meanwhile.
 *
 * Handles. The functions that free or close accept NULL and do nothing; the functions that return a number accept
 * NULL and return 0. All other functions return EK_BAD_ARGUMENT if a required pointer is NULL. A handle that was freed
 * is treated like NULL: using it is EK_BAD_ARGUMENT, and freeing it twice does nothing. But a new handle may get the
 * address of one that was freed, after some hundred others. A session, stream or watch that is freed while a call uses
 * it stays until the end of that call, which is cancelled.
 */
#ifndef EDGEKIT_H
#define EDGEKIT_H

#include <stdint.h>

#if defined(_WIN32)
#define EK_API __declspec(dllexport)
#else
#define EK_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version and errors ---- */

/* Incremented by every incompatible change to this header or to edgekit_tools.h. New functions leave it unchanged. */
#define EK_ABI_VERSION 3

typedef enum {
  EK_OK = 0,
  EK_BAD_ARGUMENT = 1, /* an argument is out of range, or a required pointer is NULL */
  EK_NON_FINITE = 2,   /* a number is NaN, infinite, or too large for the type of the result */
  EK_BAD_FILE = 3,     /* a file is missing, damaged, or not an edgekit file */
  EK_UNSUPPORTED = 4,  /* this library has no code for the artifact or for the processor */
  EK_NO_MEMORY = 5,    /* not enough memory is available, or threads cannot be started */
  EK_CONTEXT = 6,      /* the tokens do not fit into the context */
  EK_TOKEN = 7,        /* a token id is outside the vocabulary */
  EK_INTERNAL = 8,     /* a bug in edgekit */
  EK_BUSY = 9,         /* another call uses the session */
  EK_CALLBACK = 10,    /* a callback of the caller threw an exception */
  EK_CANCELLED = 11,   /* ek_session_cancel ended the call */
  EK_FORKED = 12       /* the session was created, or a stream or watch was in use, before this process was forked */
} ek_status;

/* The ABI version the library was built with. Compare it with EK_ABI_VERSION before calling anything else. */
EK_API int ek_abi_version(void);

/* A description of the last error in the calling thread, in UTF-8; "" if there was none. Never NULL. What is not UTF-8,
 * such as a part of a path, is shown as U+FFFD. The text is valid until the next error in this thread. */
EK_API const char *ek_last_error(void);

/* The name of the kernels the engine uses on this processor: an instruction set, such as "neon_i8mm", and the functions
 * for which another one was faster, such as "avx512vnni, decode avx2". The text is valid until the process ends. The
 * first call may measure; see ek_session_create. The environment variable EDGEKIT_ISA forces one instruction set; NULL,
 * with a message in ek_last_error, if this processor or this build does not support it. */
EK_API const char *ek_kernel_name(void);

/* The recommended number of threads, at least 1: one for each physical core this process may run on. Slow cores do not
 * count where cores differ, and a CPU quota of a control group is an upper limit. */
EK_API int ek_default_threads(void);

/* ---- Models ---- */

typedef struct ek_model ek_model;

/* Open the artifact in `folder` (UTF-8) and store a handle in `model`. Weights are mapped, not read, so this takes
 * milliseconds. If the process has the same files open already, their mapping is shared.
 *
 * Links are followed, wherever they lead. edgekit-run and the Python package refuse an artifact with links that lead
 * out of its folder. If a folder comes from somebody else, look for links before you open it.
 *
 * EK_BAD_FILE: a file is missing, damaged, or not part of an artifact. EK_UNSUPPORTED: the artifact is not quantized to
 * 4 or 8 bits, or has another format version. */
EK_API int ek_model_open(const char *folder, ek_model **model);

/* Release the model. Its sessions remain valid; the files are unmapped with the last of them. */
EK_API void ek_model_close(ek_model *model);

/* The number of token ids: ids are 0 to ek_model_vocab_size - 1, and a row of logits has this many numbers. */
EK_API int64_t ek_model_vocab_size(const ek_model *model);

/* The longest context the model supports, in tokens. */
EK_API int64_t ek_model_context_length(const ek_model *model);

/* ---- Sessions: one sequence of tokens with its KV cache ---- */

typedef struct ek_session ek_session;

/* The type of keys and values in the cache. An int8 cache has about half the size; each head of each position has its
 * own scale. */
typedef enum { EK_KV_FLOAT16 = 0, EK_KV_INT8 = 1 } ek_kv_type;

/* Create an empty session and store a handle in `session`.
 *
 * The first call on a processor measures which kernels are the fastest there, for some 20 ms, and keeps the result in
 * a small file: in the folder that EDGEKIT_CACHE names, or in XDG_CACHE_HOME/edgekit, or in ~/.cache/edgekit. A folder
 * that cannot be written is no error; every process then measures once.
 *
 *   context  the most tokens the session can hold: 1 to ek_model_context_length
 *   threads  threads for the arithmetic, the calling thread included: 1 to 1024, or 0 for ek_default_threads.
 *            Threads beyond the CPUs that the process may use would only wait, so they do nothing
 *   kv_type  an ek_kv_type
 *
 * If the system refuses to start so many threads, the session works with fewer; see ek_session_threads.
 *
 * EK_CONTEXT: the context is out of range.
 * EK_NO_MEMORY: the KV cache needs more memory than is available.
 * EK_UNSUPPORTED: EDGEKIT_ISA names an instruction set that this processor does not support. */
EK_API int ek_session_create(ek_model *model, int64_t context, int threads, int kv_type, ek_session **session);
EK_API void ek_session_free(ek_session *session);

/* The number of tokens in the session. While a call evaluates tokens, it grows by at most 512 of them at a time. */
EK_API int64_t ek_session_position(const ek_session *session);

/* The size of the KV cache in bytes. The system provides the memory as the session fills. */
EK_API int64_t ek_session_cache_bytes(const ek_session *session);

/* The threads that compute, the calling one included: those that were requested, but no more than the process may use
 * CPUs, and no more than the system has started.
 *
 *   wanted  out, may be NULL: how many there would be if the system had refused none */
EK_API int ek_session_threads(const ek_session *session, int *wanted);

/* Append `count` tokens (at least 1) and compute logits. The session is unchanged on an error.
 *
 *   tokens  (count) token ids
 *   all     0: logits of the last token only; any other value: logits of every token
 *   logits  out, float32: (vocab), or (count, vocab) with `all`
 *
 * EK_CONTEXT: the tokens do not fit. EK_TOKEN: an id is outside the vocabulary. EK_BUSY: another call uses the session.
 * EK_CANCELLED: ek_session_cancel. EK_BAD_FILE: the file of the weights has been cut. */
EK_API int ek_session_evaluate(ek_session *session, const int32_t *tokens, int64_t count, int all, float *logits);

/* Append one token and compute its logits, with the same bits as ek_session_evaluate. If the text in the session, with
 * this token, ends like an earlier part of it, the tokens that may follow are evaluated together with it; a later call
 * then finds the logits of those that do follow. Wrong guesses cost time. So the function measures what guesses cost,
 * counts how many are right, and makes none where they do not pay.
 *
 *   logits  out, float32: (vocab)
 *
 * The first guesses allocate memory for the logits of 8 tokens. Errors: as for ek_session_evaluate. */
EK_API int ek_session_next(ek_session *session, int32_t token, float *logits);

/* Let a smaller model guess tokens, too, where ek_session_next and ek_generate have no guess from the text itself. It
 * reads the prompt in addition, and is used only as far as that pays. Its guesses change no answer.
 *
 *   draft  a session of a model whose token ids mean the same, with a context of at least this session's; a shorter one
 *          makes no guesses beyond its end. NULL: no longer. Until then, it must not be freed or used by other calls
 *
 * EK_BUSY: another call uses the session. A call that finds the draft in use returns EK_BUSY as well. */
EK_API int ek_session_set_draft(ek_session *session, ek_session *draft);

/* How many tokens, since the session was created, ek_session_next and ek_generate (edgekit_text.h) did not have to
 * evaluate because they had guessed them. */
EK_API int64_t ek_session_accepted(const ek_session *session);

/* Append one token to each of `count` sessions and compute their logits together. The weights are read once for all
 * sessions: a step of 8 takes as long as 1.8 to 2.4 steps of one (measured on 2 cores of a Zen 4 with a model of
 * 1.5 billion parameters). All sessions are unchanged on an error.
 *
 *   worker    a session whose threads and scratch memory do the work; it may be one of `sessions`
 *   sessions  (count) different sessions of the worker's model
 *   tokens    (count) one token id for each session
 *   count     1 to 16
 *   logits    out, float32 (count, vocab)
 *
 * EK_CONTEXT: the context of a session is full. EK_TOKEN: an id is outside the vocabulary. EK_BUSY: another call uses
 * one of the sessions. EK_CANCELLED: ek_session_cancel with `worker`. EK_BAD_FILE: as for ek_session_evaluate. */
EK_API int ek_session_step(ek_session *worker, ek_session *const *sessions, const int32_t *tokens, int64_t count,
                           float *logits);

/* As ek_session_step, but with several tokens for some of the sessions: a piece of a prompt is read together with the
 * next tokens of other sequences.
 *
 *   counts  (count) how many tokens each session gets, 1 or more; at most 16 in all
 *   tokens  those of the first session, then those of the second, and so on
 *   logits  out, float32 (count, vocab): of the last token of each session */
EK_API int ek_session_step_pieces(ek_session *worker, ek_session *const *sessions, const int64_t *counts,
                                  const int32_t *tokens, int64_t count, float *logits);

/* Remove all tokens from position `length` on; `length` is 0 to ek_session_position. */
EK_API int ek_session_rewind(ek_session *session, int64_t length);

/* Copy the first `count` token ids, at most ek_session_position, to `tokens`. */
EK_API int ek_session_tokens(const ek_session *session, int32_t *tokens, int64_t count);

/* Replace the contents of `session` with those of `source`, a session of the same model and key-value type.
 * EK_CONTEXT: the tokens of `source` do not fit into the context of `session`. */
EK_API int ek_session_copy(ek_session *session, const ek_session *source);

/* A session's keys and values in blocks of EK_BLOCK tokens: for programs that keep the beginnings of many prompts and
 * share blocks between them. Copying a block takes a small part of the time of evaluating its tokens. */
#define EK_BLOCK 64

/* The size of a block in bytes. */
EK_API int64_t ek_session_block_bytes(const ek_session *session);

/* Copy the keys and values of the tokens block * EK_BLOCK to (block + 1) * EK_BLOCK - 1, which the session must have,
 * to `bytes` (ek_session_block_bytes). They depend on all tokens before them, the model and the key-value type. */
EK_API int ek_session_get_block(const ek_session *session, int64_t block, void *bytes);

/* Append EK_BLOCK tokens with the bytes that ek_session_get_block gave for them behind the same tokens. The session's
 * number of tokens must be a multiple of EK_BLOCK. EK_CONTEXT: they do not fit. EK_TOKEN: as for
 * ek_session_evaluate. */
EK_API int ek_session_append_block(ek_session *session, const int32_t *tokens, const void *bytes);

/* Write the token ids, keys and values of a session to a file, so that a long prompt is evaluated only once. The file
 * replaces an existing one only when it is complete, even if several threads or processes save to one path: the last
 * one that finishes wins. Until then it is beside the path as .NAME.saving-XXXXXX; what a killed process left there is
 * removed by the next call with that path. A link stays a link: the file that it leads to is replaced. A pipe or a
 * device is written to directly. If nobody reads the pipe any more, that is EK_BAD_FILE and not the signal SIGPIPE.
 *
 * The file is as private as the conversation: a new one can be read by its owner alone, and one that is replaced keeps
 * its permissions. EK_BAD_FILE: the file cannot be written. */
EK_API int ek_session_save(const ek_session *session, const char *path);

/* Replace the contents of a session with those of a file that a session of the same model and key-value type wrote.
 * EK_BAD_FILE: the file cannot be read, is truncated or damaged, or belongs to another model or type. EK_UNSUPPORTED:
 * another version of the library wrote it. EK_CONTEXT: its tokens do not fit. A checksum covers the file. If it turns
 * out to be damaged while it is read, the session is left empty. */
EK_API int ek_session_load(ek_session *session, const char *path);

/* End the call that uses the session at the moment. Returns at once. Does nothing if there is no such call; later calls
 * are not affected. ek_session_evaluate and ek_session_step (of this worker) return EK_CANCELLED within some
 * milliseconds, also in the middle of a long prompt, and leave the sessions as they were. ek_generate (edgekit_text.h)
 * reports the end of the answer. Saving and loading are not cancelled. May be called from any thread and from a signal
 * handler, as long as the session exists. */
EK_API void ek_session_cancel(ek_session *session);

/* ---- Sampling: from logits to a token ---- */

/* How to choose a token. The filters apply in the order of transformers (generation/logits_process.py): repetition
 * penalty, temperature, top_k, top_p, min_p. Tokens with the same probability as the last token that a filter keeps are
 * also kept, so the result does not depend on the order of token ids. */
typedef struct {
  float temperature;        /* 0 or more; 0 is greedy: the largest logit, the lowest id among equals, no filters */
  float top_p;              /* above 0, at most 1 (off): keep the fewest likeliest tokens with this total probability */
  float min_p;              /* 0 (off) to 1: keep tokens at least this many times as likely as the most likely one */
  float repetition_penalty; /* 0.01 or more; 1 is off. Logits of seen ids: divided by it if positive, else multiplied */
  int32_t top_k;            /* 0 (off) or more: keep the k most likely tokens */
} ek_sampling;

/* Choose a token. The same logits, sampling and random state give the same token on every machine.
 *
 *   logits        float32 (n), not modified
 *   seen          uint8 (n): not zero for the ids of the prompt and of the generated tokens, for the repetition
 *                 penalty; NULL if there are none
 *   random_state  the state of the random generator; start with any 64 bits. Not used when greedy
 *   token         out
 *
 * EK_NON_FINITE: a logit is NaN, or the largest one is infinite. */
EK_API int ek_sample(const float *logits, int64_t n, const ek_sampling *sampling, const uint8_t *seen,
                     uint64_t *random_state, int32_t *token);

/* Choose a token for each of several rows of logits, such as those of ek_session_step, with the threads of a session.
 * The tokens are those that ek_sample chooses for each row alone.
 *
 *   worker         a session whose threads do the work
 *   logits         float32 (count, vocab), not modified
 *   count          1 to 16
 *   sampling       (count)
 *   seen           (count) arrays as for ek_sample, each of which may be NULL
 *   random_states  (count) unchanged on an error
 *   tokens         out (count)
 *
 * EK_NON_FINITE: as for ek_sample, for any row. EK_BUSY: another call uses the worker. EK_CANCELLED:
 * ek_session_cancel. */
EK_API int ek_session_sample(ek_session *worker, const float *logits, int64_t count, const ek_sampling *sampling,
                             const uint8_t *const *seen, uint64_t *random_states, int32_t *tokens);

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_H */
