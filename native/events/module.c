/* The module object of lamplighter._events. */

#include "events.h"

static int execute(PyObject *module)
{
    if (ll_add_decoder(module) < 0)
        return -1;
    return ll_add_encoder(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "lamplighter._events",
    .m_doc = "Event decoding by learned shape, and result encoding; the face is lamplighter.events.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__events(void)
{
    return PyModuleDef_Init(&definition);
}
