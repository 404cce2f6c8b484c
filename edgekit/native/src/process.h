/* What the objects of this library share with the whole process: forks, and locks that a forked child can take. */
#ifndef EDGEKIT_SRC_PROCESS_H
#define EDGEKIT_SRC_PROCESS_H

#include <mutex>

namespace ek {

/* Locks of lists that belong to the process. A fork waits until nobody holds one of them, so that no child begins with a lock
 * that no thread of it will release. They are never destroyed, because threads may still use them while the process ends. */
std::mutex &opening_mutex(); /* held while models are opened and threads are started */
std::mutex &short_mutex();   /* held for some instructions; may be taken while the other one is held */

/* How often this process is the child of a fork. Threads and sessions that were made before exist in the parent only. */
int forks();

}  // namespace ek

#endif
