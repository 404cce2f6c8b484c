/* A libFuzzer target. The input is an edgekit.json as edgekit-run reads it. What is written of it must read as the same. */
#include <cstdlib>
#include <string>

#include "run/failure.h"
#include "run/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  const std::string text(reinterpret_cast<const char *>(bytes), size);
  run::Json manifest;
  try {
    manifest = run::Json::parse(text);
  } catch (const std::string &) {
    return 0;
  }
  const std::string written = manifest.dump();
  if (run::Json::parse(written).dump() != written) std::abort();
  try {
    run::name_of(manifest);
    run::context_of(manifest, 0);
    run::context_of(manifest, 5);
    run::kv_type_of(manifest, std::nullopt);
    run::differences("/nonexistent", manifest);
  } catch (const run::Failure &) {
  }
  return 0;
}
