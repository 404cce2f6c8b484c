/* edgekit-run: runs an artifact without Python. The words, results and exit codes are those of the command edgekit. */
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "../text/unicode.h"
#include "failure.h"
#include "jobs.h"
#include "options.h"
#include "printer.h"

namespace {

int report(const run::Failure &failure, bool json) {
  if (json) {
    const run::Json::Fields error{{"kind", failure.kind}, {"message", failure.message}, {"hint", failure.hint}};
    std::printf("%s\n", run::Json(run::Json::Fields{{"error", error}}).dump().c_str());
  } else {
    std::fflush(stdout);
    std::string shown; /* arguments and names of files need not be UTF-8 */
    ek::append_replaced("error: " + failure.message + "\n" + (failure.hint.empty() ? "" : "hint: " + failure.hint + "\n"), shown);
    std::fputs(run::printable(shown).c_str(), stderr);
  }
  return failure.exit_code;
}

int start(const std::vector<std::string> &arguments) {
  const run::Options options = run::parse(arguments);
  switch (options.job) {
    case run::Job::help: std::fputs(run::help().c_str(), stdout); return 0;
    case run::Job::version: std::printf("edgekit-run, version %s, ABI version %d\n", run::version(), ek_abi_version()); return 0;
    case run::Job::bench: return run::bench(options);
    case run::Job::smoke: return run::smoke(options);
    case run::Job::answer: break;
  }
  return run::answer(options);
}

}  // namespace

int main(int argc, char **argv) {
  const std::vector<std::string> arguments(argv + (argc > 0), argv + argc);
  bool json = false; /* also for errors that arise before the command line is parsed */
  for (const std::string &argument : arguments) json = json || argument == "--json";
  try {
    const int status = start(arguments);
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) return report({52, "disk_full", "cannot write the output", ""}, false);
    return status;
  } catch (const run::Failure &failure) {
    return report(failure, json);
  } catch (const std::bad_alloc &) {
    return report({70, "engine", "not enough memory", ""}, json);
  } catch (const std::exception &error) {
    return report({1, "internal", error.what(), "this is a bug in edgekit"}, json);
  }
}
