/* The command line of edgekit-run. Its words are those of `edgekit run`, `edgekit bench` and `edgekit smoke`. */
#ifndef EDGEKIT_RUN_OPTIONS_H
#define EDGEKIT_RUN_OPTIONS_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "edgekit_text.h"

namespace run {

enum class Thoughts { show, fold, hide };
enum class Job { answer, bench, smoke, help, version };

struct Options {
  Job job = Job::answer;
  std::string artifact;
  bool json = false, raw = false;
  std::optional<std::string> prompt;
  int64_t max_tokens = 0, context = 0, threads = 0; /* 0: the default */
  std::optional<ek_kv_type> kv_type; /* none: as planned */
  std::optional<uint64_t> seed;
  int64_t think_tokens = 0; /* 0: no limit */
  Thoughts thoughts = Thoughts::show;
  bool no_speculation = false, no_preparation = false;
  ek_loop_guard loop_guard = EK_GUARD_THOUGHT;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::vector<int64_t> prompt_tokens = {128, 512};
  int64_t gen_tokens = 32, repeat = 3;
  std::string out, device, draft;
  double sustain_s = 0;
};

/* Throws Failure if the command line is not valid.
 *
 *   arguments  without the name of the program */
Options parse(const std::vector<std::string> &arguments);

/* What --help prints. */
std::string help();

}  // namespace run

#endif
