/* edgekit-run --bench: prefill, decode, load time and memory, measured as `edgekit bench` does. */
#include <algorithm>
#include <cstdio>
#include <random>

#include "host.h"
#include "jobs.h"
#include "manifest.h"

namespace run {
namespace {

struct Spread {
  double median, least, most;
};

Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

struct Measured {
  int64_t tokens;
  std::vector<double> prefill_s, decode_s; /* of each round */
};

Spread rates(int64_t tokens, std::vector<double> seconds) {
  for (double &value : seconds) value = static_cast<double>(tokens) / value;
  return spread(std::move(seconds));
}

/* Every round evaluates new random ids. The first one is not timed: it maps the weights and starts the threads. */
std::vector<Measured> measure(ek_session *session, const Options &options, int64_t vocab) {
  std::vector<Measured> measured{{0, {}, {}}};
  for (const int64_t length : options.prompt_tokens) measured.push_back({length, {}, {}});
  std::vector<float> logits(static_cast<size_t>(vocab));
  std::mt19937 random{std::random_device{}()};
  for (int64_t round = 0; round <= options.repeat; ++round)
    for (Measured &each : measured) {
      std::vector<int32_t> prompt(static_cast<size_t>(std::max<int64_t>(each.tokens, 1)));
      for (int32_t &id : prompt) id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
      const Round timed = time_round(session, prompt, options.gen_tokens, logits);
      if (round == 0) continue;
      each.prefill_s.push_back(timed.ttft_s);
      each.decode_s.push_back(timed.decode_s);
    }
  return measured;
}

Json to_json(const Options &options, const Json &manifest, ek_kv_type kv_type, double load_s, const std::vector<Measured> &measured) {
  std::vector<Json> prefill, decode;
  for (const Measured &each : measured) {
    const Spread rate = rates(options.gen_tokens, each.decode_s);
    decode.push_back(Json::Fields{{"context", each.tokens}, {"tok_s", rate.median}, {"tok_s_min", rate.least},
                                  {"tok_s_max", rate.most}, {"share_of_bandwidth", {}}});
    if (each.tokens == 0) continue;
    const Spread speed = rates(each.tokens, each.prefill_s), ttft = spread(each.prefill_s);
    prefill.push_back(Json::Fields{{"tokens", each.tokens}, {"tok_s", speed.median}, {"tok_s_min", speed.least},
                                   {"tok_s_max", speed.most}, {"ttft_s", ttft.median}, {"ttft_s_min", ttft.least},
                                   {"ttft_s_max", ttft.most}, {"share_of_peak", {}}});
  }
  return Json::Fields{{"name", name_of(manifest)}, {"engine", "native"}, {"kernel", kernel_name()},
                      {"threads", threads_of(options)}, {"kv_type", name_of(kv_type)}, {"repeat", options.repeat},
                      {"gen_tokens", options.gen_tokens}, {"load_s", load_s}, {"prefill", prefill}, {"decode", decode},
                      {"peak_rss_bytes", peak_rss_bytes()}, {"private_bytes", private_bytes()}, {"limits", {}},
                      {"shares_unknown", "edgekit-run does not measure the limits of the machine; edgekit bench does"}};
}

void print(const Json &result) {
  std::printf("%s: native (%s), %.0f threads, %s cache; median of %.0f rounds\n\n", result["name"].text().c_str(),
              result["kernel"].text().c_str(), result["threads"].number(), result["kv_type"].text().c_str(),
              result["repeat"].number());
  std::printf("%-30s %9s %9s %9s   %s\n", "", "tok/s", "lowest", "highest", "first token");
  const auto row = [](const std::string &name, const Json &from) {
    std::printf("%-30s %9.1f %9.1f %9.1f", name.c_str(), from["tok_s"].number(), from["tok_s_min"].number(), from["tok_s_max"].number());
    if (!from["ttft_s"].is_null()) std::printf("   %.0f ms", from["ttft_s"].number() * 1000);
    std::printf("\n");
  };
  for (const Json &each : result["prefill"].items()) row("prefill " + each["tokens"].dump() + " tokens", each);
  for (const Json &each : result["decode"].items())
    row("decode " + result["gen_tokens"].dump() + " at context " + each["context"].dump(), each);
  std::printf("\nload %.0f ms", result["load_s"].number() * 1000);
  for (const auto &[name, field] : {std::pair("peak memory", "peak_rss_bytes"), std::pair("private memory", "private_bytes")})
    if (!result[field].is_null()) std::printf(", %s %s", name, format_bytes(result[field].number()).c_str());
  std::printf("\n");
}

}  // namespace

int bench(const Options &options) {
  const Json manifest = read_manifest_to_load(options.artifact);
  const int64_t longest = options.prompt_tokens.empty() ? 1 : *std::max_element(options.prompt_tokens.begin(), options.prompt_tokens.end());
  const int64_t context = context_of(manifest, longest > INT64_MAX - options.gen_tokens ? INT64_MAX : longest + options.gen_tokens);
  const ek_kv_type kv_type = kv_type_of(manifest, options.kv_type);
  const double started = now();
  const Owned<ek_model> model = open_model(options.artifact);
  const Owned<ek_session> session = open_session(model.get(), options, context, kv_type);
  const double load_s = now() - started;
  const Json result = to_json(options, manifest, kv_type, load_s, measure(session.get(), options, ek_model_vocab_size(model.get())));
  if (options.json)
    std::printf("%s\n", result.dump().c_str());
  else
    print(result);
  return 0;
}

}  // namespace run
