/* Keeps measured speeds of kernels in a small text file of the user's cache folder:
 *
 *   edgekit kernels 1
 *   processor AuthenticAMD 00a10f11 AMD EPYC 9B14 96-Core Processor
 *   library 0123456789abcdef
 *   decode avx512vnni 44812345678          multiply-adds per second; a line for each role and table that was measured
 *   decode avx2 51234567890
 *   ...
 *   checksum 0123456789abcdef              FNV-1a, 64 bits, of everything above
 *
 * The name of the file is a hash of its first lines, so that processors and versions that share a folder do not overwrite each
 * other. A file that is damaged, or is not the expected one, counts as missing. */
#ifndef EDGEKIT_SRC_CHOICE_FILE_H
#define EDGEKIT_SRC_CHOICE_FILE_H

#include <string>
#include <vector>

#include "trial.h"

namespace ek {

/* $EDGEKIT_CACHE, otherwise $XDG_CACHE_HOME/edgekit, otherwise ~/.cache/edgekit, like checkpoint/sources.py; "" if no
 * variable names a folder. */
std::string cache_folder();

/* The path of the file in a cache folder, for this processor and this build of the library. */
std::string choice_path(const std::string &folder);

/* Set the rates of `speeds` to those of the file and return true. The file must have exactly these roles and tables in this
 * order; otherwise return false and change nothing. */
bool read_choice(const std::string &path, std::vector<MeasuredSpeed> &speeds);

/* Write the file with its folders under a temporary name and rename it. false: it cannot be written. */
bool write_choice(const std::string &path, const std::vector<MeasuredSpeed> &speeds);

}  // namespace ek

#endif
