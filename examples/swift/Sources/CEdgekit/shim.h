/* Found by -Xcc -I; see README.md. */
#include <edgekit_text.h>
