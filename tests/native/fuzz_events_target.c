/*
 * libFuzzer's target: an embedded Python whose lamplighter._events is compiled into this program, and so is what the
 * fuzzer's coverage speaks of. What is done with an input, and who judges it, is in fuzz_events.py.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>

PyMODINIT_FUNC PyInit__events(void);
int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static PyObject *judge;

static void fail(void)
{
    PyErr_Print();
    abort();
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    if (PyImport_AppendInittab("_events", PyInit__events) < 0)
        abort();
    Py_Initialize();
    PyObject *module = PyImport_ImportModule("fuzz_events");
    judge = module == NULL ? NULL : PyObject_CallMethod(module, "judge_within", NULL);
    Py_XDECREF(module);
    if (judge == NULL)
        fail();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *done = PyObject_CallFunction(judge, "y#", (const char *)data, (Py_ssize_t)size);
    if (done == NULL)
        fail();
    Py_DECREF(done);
    return 0;
}
