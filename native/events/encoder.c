/* The encoder for what handlers mostly return. */

#include "events.h"

int ll_add_encoder(PyObject *module)
{
    (void)module;
    return 0;
}
