/*
 * lamplighter._events: from an event's bytes to Python objects, and from a handler's result to bytes.
 *
 * Each source file of this directory adds what it implements to the module, and keeps no state of its own outside the
 * objects it makes: but for the types, and for what is measured once at import and then constant (which dict layout
 * this interpreter has, which instructions this processor has).
 */

#ifndef LAMPLIGHTER_EVENTS_H
#define LAMPLIGHTER_EVENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Each returns 0, or -1 with a Python exception set. */
int ll_add_decoder(PyObject *module); /* decoder.c */
int ll_add_encoder(PyObject *module); /* encoder.c */

#endif
