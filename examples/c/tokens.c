/* Token ids in, token ids out: the lowest level of the API. chat.c uses text.
 *
 * CMakeLists.txt builds it. Arguments: an artifact, the number of tokens to generate, and the token ids of the prompt:
 *
 *   ./tokens ARTIFACT 16 1 504 282
 */
#include <edgekit.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int status, const char *what) {
  if (status == EK_OK) return;
  fprintf(stderr, "%s: %s\n", what, ek_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  if (ek_abi_version() != EK_ABI_VERSION) {
    fprintf(stderr, "the library has ABI version %d; this program needs %d\n", ek_abi_version(), EK_ABI_VERSION);
    return 1;
  }
  if (argc < 4) {
    fprintf(stderr, "usage: tokens ARTIFACT TOKENS ID [ID ...]\n");
    return 2;
  }
  ek_model *model;
  ek_session *session;
  check(ek_model_open(argv[1], &model), "open");
  const int64_t vocab = ek_model_vocab_size(model), prompt = argc - 3, tokens = atoll(argv[2]);
  check(ek_session_create(model, prompt + tokens, 0, EK_KV_INT8, &session), "session");

  int32_t *ids = malloc(sizeof *ids * (size_t)prompt);
  float *logits = malloc(sizeof *logits * (size_t)vocab);
  if (!ids || !logits) return 1;
  for (int64_t i = 0; i < prompt; ++i) ids[i] = atoi(argv[3 + i]);
  check(ek_session_evaluate(session, ids, prompt, 0, logits), "prompt");

  const ek_sampling greedy = {.temperature = 0, .top_p = 1, .min_p = 0, .repetition_penalty = 1, .top_k = 0};
  uint64_t random_state = 1;
  for (int64_t i = 0; i < tokens; ++i) {
    int32_t token;
    check(ek_sample(logits, vocab, &greedy, NULL, &random_state, &token), "sample");
    printf("%d\n", token);
    fflush(stdout);
    if (i + 1 < tokens) check(ek_session_evaluate(session, &token, 1, 0, logits), "token");
  }
  free(ids);
  free(logits);
  ek_session_free(session);
  ek_model_close(model);
  return 0;
}
