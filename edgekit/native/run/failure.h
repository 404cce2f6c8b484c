/* An error that ends edgekit-run, with the kind and the exit code that the Python command has for it. */
#ifndef EDGEKIT_RUN_FAILURE_H
#define EDGEKIT_RUN_FAILURE_H

#include <string>

#include "edgekit.h"

namespace run {

struct Failure {
  int exit_code;
  std::string kind, message, hint;
};

/* The command line is not valid. */
inline Failure usage(std::string message, std::string hint = "") {
  return {2, "usage", std::move(message), std::move(hint)};
}

/* The folder is not a usable artifact. */
inline Failure bad_artifact(std::string message, std::string hint = "") {
  return {60, "artifact", std::move(message), std::move(hint)};
}

/* Throws the error of a function of the library, unless it returned EK_OK. */
inline void check(int status) {
  switch (status) {
    case EK_OK: return;
    case EK_BAD_ARGUMENT: throw usage(ek_last_error());
    case EK_CONTEXT: throw Failure{71, "context_length", ek_last_error(), ""};
    case EK_TOKEN: throw Failure{72, "token_range", ek_last_error(), ""};
    default: throw Failure{70, "engine", ek_last_error(), ""};
  }
}

}  // namespace run

#endif
