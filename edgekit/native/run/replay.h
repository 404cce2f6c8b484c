/* The golden test of an artifact: recorded by the build, repeated here. As in edgekit/runtime/replay.py. */
#ifndef EDGEKIT_RUN_REPLAY_H
#define EDGEKIT_RUN_REPLAY_H

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "json.h"

namespace run {

struct Golden {
  std::vector<int32_t> prompt, continuation;      /* ids; -1 for what is not an id */
  std::vector<std::pair<int32_t, double>> logits; /* the largest ones of the first new token */
};

/* Throws Failure if the manifest has none, or it is incomplete. */
Golden golden_of(const std::string &folder, const Json &manifest);

struct Outcome {
  bool passed;
  std::string detail;
};

/* Compares the logits of the first new token with the recorded ones. */
Outcome compare_logits(const std::vector<float> &row, const Golden &golden);

/* Given the recorded tokens before it, every choice is the recorded one or has nearly the same logit.
 *
 *   row       the logits of the first new token
 *   evaluate  replaces them by those after one more token */
Outcome compare_tokens(const Golden &golden, std::vector<float> &row, const std::function<void(int32_t token)> &evaluate);

}  // namespace run

#endif
