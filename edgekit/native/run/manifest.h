/* edgekit.json, the manifest of an artifact, and the check of the artifact's files against it. */
#ifndef EDGEKIT_RUN_MANIFEST_H
#define EDGEKIT_RUN_MANIFEST_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "edgekit.h"
#include "json.h"

namespace run {

/* Throws Failure if the folder is not an artifact. */
Json read_manifest(const std::string &folder);

/* The same, of an artifact that is loaded next: also throws Failure if links lead out of the folder. */
Json read_manifest_to_load(const std::string &folder);

/* The SHA-256 of edgekit.json. */
std::string manifest_sha256(const std::string &folder);

/* What differs from the manifest, and the manifest from its digest: one phrase for each file. Only files of the right size are
 * hashed. */
std::vector<std::string> differences(const std::string &folder, const Json &manifest);

/* The artifact's name. */
const std::string &name_of(const Json &manifest);

/* A number of the manifest that counts something: table.key. Throws Failure if it is not a whole number of 1 or more. */
int64_t count_of(const Json &manifest, const char *table, const char *key);

/* The context to allocate: `asked`, or with 0 what the build planned, at most the model's. */
int64_t context_of(const Json &manifest, int64_t asked);

/* The type of keys and values: `asked`, or else what the build planned for the native engine. Where that is not float16, a line
 * on stderr says why. */
ek_kv_type kv_type_of(const Json &manifest, std::optional<ek_kv_type> asked);

/* "102 MB", as edgekit's other commands write sizes. */
std::string format_bytes(double bytes);

}  // namespace run

#endif
