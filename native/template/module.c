/* The module object of lamplighter._template. */

#include "template.h"

#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static PyObject *collapse(PyObject *module, PyObject *args)
{
    unsigned long long address, length;

    (void)module;
    if (!PyArg_ParseTuple(args, "KK:collapse", &address, &length))
        return NULL;
    /* It copies what is there and changes no byte of it; where nothing is mapped, it does nothing. */
    return PyBool_FromLong(madvise((void *)(uintptr_t)address, (size_t)length, MADV_COLLAPSE) == 0);
}

static PyMethodDef methods[] = {
    {"immortalise", ll_immortalise, METH_NOARGS,
     "immortalise()\n--\n\n"
     "Make text, numbers, code, functions, classes, modules, and tuples of such immortal; how many were made so.\n\n"
     "0 where CPython has no immortal objects: before 3.12, and without the GIL. Objects put out of the collector's\n"
     "reach before are not found."},
    {"gather_arenas", ll_gather_arenas, METH_NOARGS,
     "gather_arenas()\n--\n\n"
     "From now on have the arenas of Python's allocator lie side by side, from a multiple of 2 MiB on; False if they\n"
     "cannot: where the address space is limited (RLIMIT_AS), or Python has no GIL."},
    {"collapse", collapse, METH_VARARGS,
     "collapse(address, length)\n--\n\n"
     "Back memory of this process by huge pages (MADV_COLLAPSE, Linux 6.1); False if it cannot be."},
    {0},
};

static PyModuleDef_Slot slots[] = {
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
    .m_name = "lamplighter._template",
    .m_doc = "What a template does to its heap before it is forked; the face is lamplighter.template.heap.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__template(void)
{
    return PyModuleDef_Init(&definition);
}
