#include "options.h"

#include <algorithm>
#include <cerrno>
#include <cfloat>
#include <cmath>
#include <cstdlib>

#include "failure.h"

namespace run {
namespace {

using Text = const std::string &;

int64_t whole(const std::string &name, const std::string &text, int64_t least) {
  char *end;
  errno = 0;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end) throw usage(name + ": '" + text + "' is not a whole number");
  if (value < least) throw usage(name + " is " + text + "; it must be at least " + std::to_string(least));
  if (errno) throw usage(name + " is " + text + "; it must be at most " + std::to_string(INT64_MAX));
  return value;
}

double real(const std::string &name, const std::string &text) {
  char *end;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || std::isnan(value)) throw usage(name + ": '" + text + "' is not a number");
  return value;
}

/* A setting of the sampler, in the ranges of edgekit/sampling.py. The sampler computes in float. */
double setting(const std::string &name, const std::string &text, bool (*valid)(double), const char *requirement) {
  const double value = real(name, text);
  if (std::fabs(value) > static_cast<double>(FLT_MAX)) throw usage(name + " is " + text + "; it must be a finite number of at most 3.4e+38");
  if (!valid(value)) throw usage(name + " is " + text + "; it must be " + requirement);
  return value;
}

uint64_t seed_of(const std::string &text) {
  char *end;
  errno = 0;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end || errno || text.find_first_not_of("0123456789") != std::string::npos)
    throw usage("--seed is " + text + "; it must be 0 or more and below 2^64");
  return value;
}

std::vector<int64_t> counts(const std::string &name, const std::string &text) {
  std::vector<int64_t> values;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const int64_t value = whole(name, text.substr(at, end - at), 1);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
    at = end + 1;
  }
  return values;
}

/* The place of a value among `allowed`. */
int choice(const std::string &name, const std::string &value, const std::vector<std::string> &allowed) {
  std::string all;
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (value == allowed[i]) return static_cast<int>(i);
    all += (i ? i + 1 == allowed.size() ? " or " : ", " : "") + allowed[i];
  }
  throw usage(name + " is '" + value + "'; it must be " + all);
}

Text filled(Text name, Text value) {
  if (value.empty()) throw usage(name + " is empty");
  return value;
}

struct Option {
  const char *name, *metavar, *help;
  void (*set)(Options &options, const std::string &name, const std::string &value); /* value: "" for a flag */
};

const Option kOptions[] = {
    {"--prompt", "TEXT", "Answer this prompt and exit; - reads the prompt from stdin.",
     [](Options &o, Text, Text value) { o.prompt = value; }},
    {"--max-tokens", "TOKENS", "Generate at most this many tokens per answer.",
     [](Options &o, Text name, Text value) { o.max_tokens = whole(name, value, 1); }},
    {"--temperature", "X", "Sample at this temperature; 0 is greedy.",
     [](Options &o, Text name, Text value) { o.temperature = setting(name, value, [](double x) { return x >= 0; }, "0 (greedy) or more"); }},
    {"--top-p", "P", "Sample from the most likely tokens whose probabilities add up to this.",
     [](Options &o, Text name, Text value) { o.top_p = setting(name, value, [](double x) { return x > 0 && x <= 1; }, "above 0 and at most 1"); }},
    {"--top-k", "N", "Sample from this many of the most likely tokens; 0 disables this.",
     [](Options &o, Text name, Text value) { o.top_k = whole(name, value, 0); }},
    {"--min-p", "P", "Drop tokens less likely than this fraction of the most likely one; 0 disables this.",
     [](Options &o, Text name, Text value) { o.min_p = setting(name, value, [](double x) { return x >= 0 && x <= 1; }, "between 0 and 1"); }},
    {"--repetition-penalty", "X", "Penalize tokens that have occurred before: 0.01 or more; 1 disables this.",
     [](Options &o, Text name, Text value) { o.repetition_penalty = setting(name, value, [](double x) { return x >= 0.01; }, "0.01 or more"); }},
    {"--seed", "N", "Seed the sampler; the same command on the same machine then gives the same answer.",
     [](Options &o, Text, Text value) { o.seed = seed_of(value); }},
    {"--think-tokens", "TOKENS", "Close a thought after this many tokens; the answer follows  [default: no limit]",
     [](Options &o, Text name, Text value) { o.think_tokens = whole(name, value, 1); }},
    {"--thoughts", "show|fold|hide", "Show the thought, fold it to one line (on a terminal), or hide it  [default: show]",
     [](Options &o, Text name, Text value) { o.thoughts = static_cast<Thoughts>(choice(name, value, {"show", "fold", "hide"})); }},
    {"--loop-guard", "thought|off|all", "Break out of repetition, in the thought or in all of the answer  [default: thought]",
     [](Options &o, Text name, Text value) { o.loop_guard = static_cast<ek_loop_guard>(choice(name, value, {"thought", "off", "all"})); }},
    {"--no-prepare", nullptr, "Do not prepare the next prompt of a reasoning model while you read its answer.",
     [](Options &o, Text, Text) { o.no_preparation = true; }},
    {"--draft", "ARTIFACT", "Let this small artifact with the same tokenizer guess tokens as well. The answer stays the same.",
     [](Options &o, Text name, Text value) { o.draft = filled(name, value); }},
    {"--no-speculate", nullptr, "Do not guess the next tokens from earlier text. The answer stays the same.",
     [](Options &o, Text, Text) { o.no_speculation = true; }},
    {"--raw", nullptr, "Continue the prompt as plain text, without the chat format.",
     [](Options &o, Text, Text) { o.raw = true; }},
    {"--context", "TOKENS", "Make room for this many tokens of prompt and answer together  [default: as built]",
     [](Options &o, Text name, Text value) { o.context = whole(name, value, 1); }},
    {"--threads", "N", "Use this many threads  [default: one per physical core]",
     [](Options &o, Text name, Text value) { o.threads = whole(name, value, 1); }},
    {"--kv-type", "float16|int8", "Store the KV cache in this type; int8 halves its size  [default: as planned]",
     [](Options &o, Text name, Text value) { o.kv_type = static_cast<ek_kv_type>(choice(name, value, {"float16", "int8"})); }},
    {"--bench", nullptr, "Measure how fast the artifact runs on this machine and how much memory it takes.",
     [](Options &o, Text, Text) { o.job = Job::bench; }},
    {"--prompt-tokens", "N,N,...", "With --bench: measure prompts of these lengths  [default: 128,512]",
     [](Options &o, Text name, Text value) { o.prompt_tokens = counts(name, value); }},
    {"--gen-tokens", "TOKENS", "With --bench: generate this many tokens  [default: 32]",
     [](Options &o, Text name, Text value) { o.gen_tokens = whole(name, value, 1); }},
    {"--repeat", "N", "With --bench: time this many rounds  [default: 3]",
     [](Options &o, Text name, Text value) { o.repeat = whole(name, value, 1); }},
    {"--smoke", nullptr, "Check that the artifact works on this machine: its files, golden answer, speed and memory.",
     [](Options &o, Text, Text) { o.job = Job::smoke; }},
    {"--device", "NAME", "With --smoke: treat this machine as this device, and compare the times with its plan.",
     [](Options &o, Text name, Text value) { o.device = filled(name, value); }},
    {"--sustain", "SECONDS", "With --smoke: decode for this long, to see whether heat slows the machine down.",
     [](Options &o, Text name, Text value) {
       o.sustain_s = real(name, value);
       if (!(o.sustain_s > 0 && o.sustain_s <= 3600)) throw usage("--sustain is " + value + " s; it must be above 0 and at most 3600");
     }},
    {"--out", "FILE", "With --smoke: write the results as JSON to this file, too.",
     [](Options &o, Text name, Text value) { o.out = filled(name, value); }},
    {"--json", nullptr, "Print the result as one JSON object on stdout.", [](Options &o, Text, Text) { o.json = true; }},
    {"--version", nullptr, "Show the version and exit.", [](Options &o, Text, Text) { o.job = Job::version; }},
    {"--help", nullptr, "Show this text and exit.", [](Options &o, Text, Text) { o.job = Job::help; }},
};

const Option &option_named(const std::string &name) {
  for (const Option &option : kOptions)
    if (name == option.name || (name == "-h" && std::string(option.name) == "--help")) return option;
  throw usage("there is no option " + name, "edgekit-run --help lists the options");
}

bool has(const std::vector<std::string> &given, const std::string &name) { return std::find(given.begin(), given.end(), name) != given.end(); }

/* Refuses an option that only another job reads.
 *
 *   given  the names of the options on the command line */
void check_job(Job job, const std::vector<std::string> &given) {
  const std::pair<Job, std::vector<std::string>> own[] = {
      {Job::bench, {"--bench", "--prompt-tokens", "--gen-tokens", "--repeat"}},
      {Job::smoke, {"--smoke", "--device", "--sustain", "--out"}},
      {Job::answer,
       {"--prompt", "--max-tokens", "--temperature", "--top-p", "--top-k", "--min-p", "--repetition-penalty", "--seed", "--think-tokens",
        "--thoughts", "--loop-guard", "--no-prepare", "--draft", "--no-speculate", "--raw"}},
  };
  if (has(given, "--bench") && has(given, "--smoke")) throw usage("--bench cannot be combined with --smoke");
  for (const auto &[reader, names] : own)
    for (const std::string &name : names)
      if (reader != job && has(given, name))
        throw usage(name + (reader == Job::answer ? " cannot be combined with --bench or --smoke" : " needs " + names[0]));
}

/* given: the names of the options on the command line */
void check_combination(const Options &options, const std::vector<std::string> &given) {
  if (options.artifact.empty()) throw usage("the folder of an artifact is missing", "usage: edgekit-run ARTIFACT [OPTIONS]");
  if (options.job == Job::answer && !options.prompt && (options.json || options.raw))
    throw usage(std::string(options.json ? "--json" : "--raw") + " needs --prompt, --bench or --smoke",
                "add --prompt TEXT, or --prompt - to read it from stdin");
  check_job(options.job, given);
  if (options.job == Job::bench && has(given, "--context"))
    throw usage("--context cannot be combined with --bench", "the context is that of the longest prompt and --gen-tokens");
  if ((options.json || options.raw) && has(given, "--thoughts"))
    throw usage(std::string("--thoughts cannot be combined with ") + (options.json ? "--json" : "--raw"),
                options.json ? "the object has the thought apart from the answer" : "plain text has no thought");
  if (options.raw && options.think_tokens) throw usage("--think-tokens cannot be combined with --raw", "plain text has no thought");
  if (!options.draft.empty() && options.no_speculation)
    throw usage("--draft cannot be combined with --no-speculate", "a draft model guesses tokens");
}

}  // namespace

Options parse(const std::vector<std::string> &arguments) {
  Options options;
  std::vector<std::string> given;
  bool literal = false; /* after -- */
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string &argument = arguments[i];
    if (literal || argument.size() < 2 || argument[0] != '-') {
      if (!options.artifact.empty()) throw usage("unexpected argument '" + argument + "'; there is one artifact");
      options.artifact = argument;
    } else if (argument == "--") {
      literal = true;
    } else {
      const size_t equals = argument.find('=');
      const std::string name = argument.substr(0, equals);
      const Option &option = option_named(name);
      if (!option.metavar && equals != std::string::npos) throw usage(name + " takes no value");
      if (option.metavar && equals == std::string::npos && ++i == arguments.size()) throw usage(name + " needs a value");
      option.set(options, name, !option.metavar ? "" : equals == std::string::npos ? arguments[i] : argument.substr(equals + 1));
      if (options.job == Job::help || options.job == Job::version) return options;
      given.push_back(option.name);
    }
  }
  check_combination(options, given);
  return options;
}

std::string help() {
  std::string text =
      "Usage: edgekit-run ARTIFACT [OPTIONS]\n\n"
      "Answer a prompt with an artifact of edgekit, or hold a conversation with it.\n\n"
      "Without --prompt, the artifact answers what you type until you enter /exit. The answer is\n"
      "written to stdout as it is generated; token counts and speed go to stderr.\n\nOptions:\n";
  for (const Option &option : kOptions) {
    std::string left = std::string("  ") + option.name + (option.metavar ? std::string(" ") + option.metavar : "");
    left.resize(std::max<size_t>(left.size() + 2, 28), ' ');
    text += left + option.help + "\n";
  }
  return text +
         "\nExamples:\n"
         "  edgekit-run smollm2-135m-cpu\n"
         "  edgekit-run smollm2-135m-cpu --prompt \"What is the capital of France?\"\n"
         "  edgekit-run smollm2-135m-cpu --smoke --json\n";
}

}  // namespace run
