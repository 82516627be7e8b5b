/* What the sources of lamplighter._template share. */

#ifndef LL_TEMPLATE_H
#define LL_TEMPLATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* METH_NOARGS functions, each in the file of its name. */
PyObject *ll_immortalise(PyObject *module, PyObject *none);
PyObject *ll_gather_arenas(PyObject *module, PyObject *none);

#endif
