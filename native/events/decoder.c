/* The decoder that learns the shapes of a function's events. */

#include "events.h"

int ll_add_decoder(PyObject *module)
{
    (void)module;
    return 0;
}
