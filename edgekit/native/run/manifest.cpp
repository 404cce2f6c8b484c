#include "manifest.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "failure.h"
#include "links.h"
#include "printer.h"
#include "sha256.h"

namespace run {
namespace {

constexpr const char *kFile = "edgekit.json";
constexpr size_t kMostBytes = 64u << 20; /* of a manifest, which has some 10 kB */
constexpr int kFormatVersion = 2, kDefaultContext = 4096; /* version 1 has no digest, which is not needed here */
constexpr const char *kSignature = "edgekit.sig"; /* it covers the manifest, which does not list it */

struct Close {
  void operator()(FILE *file) const { std::fclose(file); }
  void operator()(DIR *folder) const { ::closedir(folder); }
};
using File = std::unique_ptr<FILE, Close>;

/* A file that is read to its end; null, with the reason, for what may have none. Opening a pipe does not wait. */
File open_file(const std::string &path, std::string &problem) {
  const int opened = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  struct stat status;
  if (opened >= 0 && ::fstat(opened, &status) == 0 && S_ISREG(status.st_mode))
    if (FILE *file = ::fdopen(opened, "rb")) return File(file);
  problem = opened < 0 ? std::strerror(errno) : "it is not a regular file";
  if (opened >= 0) ::close(opened);
  return nullptr;
}

/* Every file and folder below a folder, by its path from there; that of a folder ends with a slash. */
void list_files(const std::string &root, const std::string &below, std::vector<std::string> &found) {
  const std::unique_ptr<DIR, Close> folder(::opendir((root + "/" + below).c_str()));
  if (!folder) return;
  while (const dirent *entry = ::readdir(folder.get())) {
    const std::string name = entry->d_name, path = below + name;
    struct stat status;
    if (name == "." || name == "..") continue;
    if (::lstat((root + "/" + path).c_str(), &status) == 0 && S_ISDIR(status.st_mode))
      found.push_back(path + "/"), list_files(root, path + "/", found);
    else if (path != kFile && path != kSignature)
      found.push_back(path);
  }
}

bool is_inside(const std::string &path) {
  return !path.empty() && path[0] != '/' && path.find('\\') == std::string::npos && ("/" + path + "/").find("/../") == std::string::npos;
}

bool is_file_name(const std::string &name) {
  return name.find_first_not_of(" .") != std::string::npos && name.find_first_of("/\\\n\t") == std::string::npos && printable(name) == name;
}

std::string hash_file(const std::string &path) {
  std::string problem;
  const File file = open_file(path, problem);
  if (!file) throw bad_artifact("cannot read " + path + ": " + problem);
  Sha256 hash;
  std::vector<unsigned char> buffer(1 << 20);
  while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get())) hash.add(buffer.data(), count);
  if (std::ferror(file.get())) throw bad_artifact("cannot read " + path + ": " + std::strerror(errno));
  return hash.finish();
}

std::string read_text(const std::string &folder) {
  const std::string path = folder + "/" + kFile;
  std::string problem;
  const File file = open_file(path, problem);
  if (!file)
    throw bad_artifact(folder + " is not an artifact: cannot open " + kFile + ": " + problem,
                       "edgekit build makes an artifact");
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, file.get())) {
    text.append(buffer, count);
    if (text.size() > kMostBytes) throw bad_artifact(path + " is longer than 64 MB");
  }
  return text;
}

/* The digest of an artifact: of its manifest, in which zeros stand for the digest that it states (artifact/digest.py). */
std::string digest_of(std::string manifest, const std::string &stated) {
  if (const size_t at = manifest.find(stated); at != std::string::npos) manifest.replace(at, stated.size(), stated.size(), '0');
  Sha256 hash;
  hash.add(manifest.data(), manifest.size());
  return hash.finish();
}

}  // namespace

Json read_manifest(const std::string &folder) {
  const std::string path = folder + "/" + kFile, text = read_text(folder);
  Json manifest;
  try {
    manifest = Json::parse(text);
  } catch (const std::string &error) {
    throw bad_artifact(path + " is not valid JSON: " + error);
  }
  if (manifest["format"].text() != "edgekit-artifact") throw bad_artifact(path + " is not the manifest of an artifact");
  const double version = manifest["format_version"].number();
  if (!(version >= 1 && version <= kFormatVersion))
    throw bad_artifact(path + " has format version " + manifest["format_version"].dump() + "; this program reads versions 1 to " +
                           std::to_string(kFormatVersion),
                       "use the edgekit-run of the edgekit that built the artifact");
  if (!is_file_name(name_of(manifest)))
    throw bad_artifact(path + ": name is " + manifest["name"].dump() + "; it must be a file name, without / and \\ and control characters");
  return manifest;
}

Json read_manifest_to_load(const std::string &folder) {
  Json manifest = read_manifest(folder);
  refuse_links(folder);
  return manifest;
}

std::string manifest_sha256(const std::string &folder) { return hash_file(folder + "/" + kFile); }

std::vector<std::string> differences(const std::string &folder, const Json &manifest) {
  std::vector<std::string> problems, found;
  if (const Json &stated = manifest["digest"]; stated.is_text())
    if (const std::string digest = digest_of(read_text(folder), stated.text()); digest != stated.text())
      problems.push_back(std::string(kFile) + " was changed: its digest is " + digest + ", not " + stated.text());
  const Json &files = manifest["files"];
  for (const auto &[name, entry] : files.fields()) {
    if (!is_inside(name)) throw bad_artifact(folder + "/" + kFile + " lists '" + name + "', which is not a path inside the artifact");
    const std::string path = folder + "/" + name;
    struct stat status;
    if (::stat(path.c_str(), &status) != 0) {
      problems.push_back(name + " is missing");
    } else if (static_cast<double>(status.st_size) != entry["size_bytes"].number(-1)) {
      problems.push_back(name + " has " + std::to_string(status.st_size) + " bytes, not " + entry["size_bytes"].dump());
    } else if (const std::string digest = hash_file(path); digest != entry["sha256"].text()) {
      problems.push_back(name + " has sha256 " + digest + ", not " + entry["sha256"].text());
    }
  }
  list_files(folder, "", found);
  std::sort(found.begin(), found.end());
  for (const std::string &path : found)
    if (path.back() != '/' && files[path.c_str()].is_null()) problems.push_back(path + " is not in the manifest");
  for (const std::string &path : found) {
    const auto is_in = [&](const auto &file) { return file.first.compare(0, path.size(), path) == 0; };
    if (path.back() == '/' && std::none_of(files.fields().begin(), files.fields().end(), is_in))
      problems.push_back("the folder " + path.substr(0, path.size() - 1) + " is not in the manifest");
  }
  return problems;
}

const std::string &name_of(const Json &manifest) { return manifest["name"].text(); }

int64_t count_of(const Json &manifest, const char *table, const char *key) {
  const Json &value = manifest[table][key];
  if (value.whole() < 1)
    throw bad_artifact(std::string(kFile) + ": " + table + "." + key + " is " + value.dump() + "; it must be a whole number of 1 or more");
  return value.whole();
}

int64_t context_of(const Json &manifest, int64_t asked) {
  const auto positions = [&](const char *table, const char *key) -> int64_t {
    return manifest[table][key].is_null() ? kDefaultContext : count_of(manifest, table, key);
  };
  const int64_t longest = positions("model", "context_length");
  if (asked == 0) return std::min(positions("plan", "context"), longest);
  if (asked > longest)
    throw Failure{71, "context_length",
                  "a context of " + std::to_string(asked) + " positions was requested; " + name_of(manifest) +
                      " holds at most " + std::to_string(longest),
                  "ask for a context of " + std::to_string(longest) + " or less"};
  return asked;
}

ek_kv_type kv_type_of(const Json &manifest, std::optional<ek_kv_type> asked) {
  const Json &plan = manifest["plan"];
  if (asked || plan["engine"].text() != "native") return asked.value_or(EK_KV_FLOAT16);
  const std::string planned = plan["kv_type"].is_null() ? "float16" : plan["kv_type"].text();
  if (planned == "float16") return EK_KV_FLOAT16;
  if (planned != "int8")
    throw bad_artifact(name_of(manifest) + ": plan.kv_type of the manifest is '" + planned + "'; allowed: float16, int8");
  const std::string &because = plan["kv_because"].text();
  std::fprintf(stderr, "note: the KV cache is int8, as planned%s\n",
               because.empty() ? "" : (": " + because).c_str());
  return EK_KV_INT8;
}

std::string format_bytes(double bytes) {
  static const struct {
    const char *name;
    double size;
  } units[] = {{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}};
  char text[32];
  for (const auto &unit : units)
    if (bytes >= unit.size) {
      const double value = bytes / unit.size;
      std::snprintf(text, sizeof text, "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, unit.name);
      return text;
    }
  std::snprintf(text, sizeof text, "%.0f B", bytes);
  return text;
}

}  // namespace run
