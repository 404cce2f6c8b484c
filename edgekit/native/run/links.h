/* Symbolic links in the folder of an artifact, as edgekit/links.py treats them: none may lead out of it. */
#ifndef EDGEKIT_RUN_LINKS_H
#define EDGEKIT_RUN_LINKS_H

#include <string>
#include <utility>
#include <vector>

namespace run {

/* The links in a folder that must not be followed, and everything else that is neither a file nor a folder: the path from the
 * folder, and what is wrong, such as "is a link to /etc/passwd, which is outside the folder". The folder may be a link itself. Links
 * into the blobs of the repository are allowed in a snapshot of the Hugging Face hub's cache. */
std::vector<std::pair<std::string, std::string>> find_links(const std::string &folder);

/* Throws Failure if there are some. */
void refuse_links(const std::string &folder);

}  // namespace run

#endif
