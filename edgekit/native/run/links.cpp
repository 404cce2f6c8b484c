#include "links.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "failure.h"

namespace run {
namespace {

constexpr size_t kMostNamed = 5;

struct Free {
  void operator()(char *text) const { std::free(text); }
  void operator()(DIR *folder) const { ::closedir(folder); }
};

/* Without links; "" and errno if it leads to nothing. */
std::string real_path(const std::string &path) {
  const std::unique_ptr<char, Free> real(::realpath(path.c_str(), nullptr));
  return real ? real.get() : "";
}

bool starts_with(const std::string &text, const std::string &start) { return text.compare(0, start.size(), start) == 0; }

/* Whether a path is a folder or in it; both without links. */
bool is_in(const std::string &path, const std::string &folder) {
  return path == folder || starts_with(path, folder.back() == '/' ? folder : folder + "/");
}

/* Whether a path is where the links of this folder lead to if it is in the hub's cache:
 * models--OWNER--NAME/snapshots/COMMIT/config.json -> models--OWNER--NAME/blobs/1f0c... */
bool is_blob(const std::string &path, const std::string &home) {
  static const std::string kSnapshots = "/snapshots";
  for (size_t at = 0; (at = home.find(kSnapshots + "/", at)) != std::string::npos; ++at) {
    const std::string repository = home.substr(0, at), name = repository.substr(repository.rfind('/') + 1);
    if ((starts_with(name, "models--") || starts_with(name, "datasets--")) && is_in(path, repository + "/blobs")) return true;
  }
  return false;
}

/* What is wrong with a path that is a link; "" if nothing is. */
std::string bad_link(const std::string &path, const std::string &home) {
  char target[4096];
  const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  if (size < 0) return "";
  const std::string link = "is a link to " + std::string(target, static_cast<size_t>(size));
  const std::string real = real_path(path);
  if (real.empty()) return link + (errno == ENOENT ? ", which does not exist" : ", which leads back to itself");
  return is_in(real, home) || is_blob(real, home) ? "" : link + ", which is outside the folder";
}

void find(const std::string &root, const std::string &below, const std::string &home, std::vector<std::pair<std::string, std::string>> &found) {
  const std::unique_ptr<DIR, Free> folder(::opendir((root + "/" + below).c_str()));
  while (const dirent *entry = folder ? ::readdir(folder.get()) : nullptr) {
    const std::string name = entry->d_name, path = root + "/" + below + name;
    if (name == "." || name == "..") continue;
    struct stat own, behind;
    std::string problem = bad_link(path, home);
    if (problem.empty() && ::stat(path.c_str(), &behind) == 0 && !S_ISDIR(behind.st_mode) && !S_ISREG(behind.st_mode))
      problem = "is neither a file nor a folder";
    if (!problem.empty()) found.emplace_back(below + name, problem);
    if (::lstat(path.c_str(), &own) == 0 && S_ISDIR(own.st_mode)) find(root, below + name + "/", home, found);
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> find_links(const std::string &folder) {
  std::vector<std::pair<std::string, std::string>> found;
  if (const std::string home = real_path(folder); !home.empty()) find(folder, "", home, found);
  std::sort(found.begin(), found.end());
  return found;
}

void refuse_links(const std::string &folder) {
  std::string problems;
  const auto found = find_links(folder);
  for (size_t i = 0; i < std::min(found.size(), kMostNamed); ++i)
    problems += (i ? "; " : "") + found[i].first + " " + found[i].second;
  if (!found.empty()) throw Failure{61, "verification", folder + " is refused: " + problems, "put the file itself in its place"};
}

}  // namespace run
