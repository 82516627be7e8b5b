/* The decoder object: options, the bytes it is given, faults as exceptions, and the memory that outlives a decode. */

#include "events.h"

#include "shape.h"

#include <structmember.h>

#define LONGEST_TEXT ((Py_ssize_t)1 << 30)
#define DEFAULT_SHAPES 8
#define DEFAULT_MEMORY (1 << 20)

/* What of the buffers is kept for the next decode; what grew larger is freed. */
#define KEPT_VALUES 4096
#define KEPT_MARKS 1024
#define KEPT_SCRATCH (1 << 16)

/*
 * lamplighter._events.Decoder
 *
 *      0  head
 *     16  busy              a decode has the fields below; another one, in a thread or a finalizer, goes without them
 *     17  refuse_constants
 *     24  values, marks, scratch: the buffers of struct ll_reader, and their room
 *     72  learner           8 KiB of it is the table of the cache of keys
 */
struct decoder {
    PyObject_HEAD
    bool busy;
    bool refuse_constants;
    PyObject **values;
    size_t values_room;
    struct ll_mark *marks;
    size_t marks_room;
    uint8_t *scratch;
    size_t scratch_room;
    struct ll_learner learner;
};

static PyObject *decode_error;

/* ---- whose turn it is ---- */

static inline bool enter(struct decoder *decoder)
{
#ifdef Py_GIL_DISABLED
    return !__atomic_test_and_set(&decoder->busy, __ATOMIC_ACQUIRE);
#else
    if (decoder->busy)
        return false;
    return decoder->busy = true;
#endif
}

static inline void leave(struct decoder *decoder)
{
#ifdef Py_GIL_DISABLED
    __atomic_clear(&decoder->busy, __ATOMIC_RELEASE);
#else
    decoder->busy = false;
#endif
}

static inline void count(unsigned long long *counter)
{
#ifdef Py_GIL_DISABLED
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
#else
    ++*counter;
#endif
}

/* ---- one decode ---- */

/* Raise DecodeError for the reader's fault. Lines and columns count characters from 1, the position bytes from 0. */
static void raise_fault(const struct ll_reader *reader)
{
    Py_ssize_t line = 1, column = 1;
    const Py_ssize_t position = reader->at - reader->start;
    PyObject *message, *fault;

    for (const uint8_t *at = reader->start; at < reader->at; at++) {
        if (*at == '\n') {
            line++;
            column = 1;
        } else {
            column += (*at & 0xc0) != 0x80;
        }
    }
    message = PyUnicode_FromFormat("%s: line %zd column %zd (byte %zd)", reader->reason, line, column, position);
    fault = message ? PyObject_CallOneArg(decode_error, message) : NULL;
    Py_XDECREF(message);
    if (!fault)
        return;
    const struct {
        const char *name;
        PyObject *value;
    } facts[] = {{"msg", PyUnicode_FromString(reader->reason)},
                 {"pos", PyLong_FromSsize_t(position)},
                 {"lineno", PyLong_FromSsize_t(line)},
                 {"colno", PyLong_FromSsize_t(column)}};
    bool complete = true;

    for (size_t at = 0; at < sizeof facts / sizeof *facts; at++) {
        complete = complete && facts[at].value && PyObject_SetAttrString(fault, facts[at].name, facts[at].value) == 0;
        Py_XDECREF(facts[at].value);
    }
    if (complete)
        PyErr_SetObject(decode_error, fault);
    Py_DECREF(fault);
}

/* The text's one value, which is on the stack; or NULL, and the fault is told. */
static const uint8_t *read_document(struct ll_reader *reader)
{
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf};
    const uint8_t *at = reader->start, *end = reader->end;

    if (end - at >= 3 && memcmp(at, mark, 3) == 0)
        at += 3;
    at = ll_skip_space(at, end);
    if (UNLIKELY(at == end))
        return ll_fault(reader, "Expecting value", at);
    at = ll_read_value(reader, at, reader->learner ? &reader->learner->root : NULL);
    if (UNLIKELY(!at))
        return NULL;
    at = ll_skip_space(at, end);
    if (UNLIKELY(at != end))
        return ll_fault(reader, "Extra data", at);
    return at;
}

static void lend(struct decoder *decoder, struct ll_reader *reader)
{
    reader->values = decoder->values;
    reader->values_room = decoder->values_room;
    reader->marks = decoder->marks;
    reader->marks_room = decoder->marks_room;
    reader->scratch = decoder->scratch;
    reader->scratch_room = decoder->scratch_room;
    reader->names = &decoder->learner.names;
    reader->learner = &decoder->learner;
}

/* Every buffer that grew larger than is kept, or belongs to nobody. */
static void trim(struct ll_reader *reader, size_t values, size_t marks, size_t scratch)
{
    if (UNLIKELY(reader->values_room > values)) {
        PyMem_Free(reader->values);
        reader->values = NULL;
        reader->values_room = 0;
    }
    if (UNLIKELY(reader->marks_room > marks)) {
        PyMem_Free(reader->marks);
        reader->marks = NULL;
        reader->marks_room = 0;
    }
    if (UNLIKELY(reader->scratch_room > scratch)) {
        PyMem_Free(reader->scratch);
        reader->scratch = NULL;
        reader->scratch_room = 0;
    }
}

static void take_back(struct decoder *decoder, struct ll_reader *reader)
{
    trim(reader, KEPT_VALUES, KEPT_MARKS, KEPT_SCRATCH);
    decoder->values = reader->values;
    decoder->values_room = reader->values_room;
    decoder->marks = reader->marks;
    decoder->marks_room = reader->marks_room;
    decoder->scratch = reader->scratch;
    decoder->scratch_room = reader->scratch_room;
    ll_settle(&decoder->learner);
}

static PyObject *decode_text(struct decoder *decoder, const char *text, Py_ssize_t size)
{
    struct ll_reader reader = {.start = (const uint8_t *)text,
                               .end = (const uint8_t *)text + size,
                               .refuse_constants = decoder->refuse_constants};
    const bool ours = enter(decoder);
    PyObject *value = NULL;

    if (UNLIKELY(size > LONGEST_TEXT)) {
        ll_fault(&reader, "Longer than 1 GiB", reader.start);
    } else {
        if (LIKELY(ours))
            lend(decoder, &reader);
        if (LIKELY(read_document(&reader)))
            value = reader.values[--reader.values_used];
    }
    if (UNLIKELY(!value)) {
        while (reader.values_used)
            Py_DECREF(reader.values[--reader.values_used]);
        if (reader.reason)
            raise_fault(&reader);
    } else {
        count(reader.missed || !ours ? &decoder->learner.misses : &decoder->learner.hits);
    }
    if (LIKELY(ours)) {
        take_back(decoder, &reader);
        leave(decoder);
    } else {
        trim(&reader, 0, 0, 0);
    }
    return value;
}

/* Of what may change while it is read, a copy. */
static PyObject *decode_copy(struct decoder *decoder, const Py_buffer *view)
{
    char *copy = PyMem_Malloc(view->len ? (size_t)view->len : 1);
    PyObject *value;

    if (!copy)
        return PyErr_NoMemory();
    memcpy(copy, view->buf, (size_t)view->len);
    value = decode_text(decoder, copy, view->len);
    PyMem_Free(copy);
    return value;
}

static PyObject *decode(PyObject *self, PyObject *data)
{
    struct decoder *decoder = (struct decoder *)self;
    PyObject *value;
    Py_buffer view;

    if (LIKELY(PyBytes_Check(data)))
        return decode_text(decoder, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
    if (!PyObject_CheckBuffer(data)) {
        PyErr_Format(PyExc_TypeError, "decode() takes bytes, bytearray or memoryview, not %.100s",
                     Py_TYPE(data)->tp_name);
        return NULL;
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    value = decode_copy(decoder, &view);
    PyBuffer_Release(&view);
    return value;
}

/* ---- the object ---- */

static PyObject *stats(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct decoder *decoder = (struct decoder *)self;
    const struct ll_learner *learner = &decoder->learner;
    const size_t bytes = sizeof *decoder + learner->bytes + learner->names.bytes +
                         decoder->values_room * sizeof *decoder->values + decoder->marks_room * sizeof *decoder->marks +
                         decoder->scratch_room;

    return Py_BuildValue("{s:K,s:K,s:K,s:n,s:n}", "hits", learner->hits, "misses", learner->misses, "relearns",
                         learner->relearns, "shapes", (Py_ssize_t)learner->shapes, "bytes", (Py_ssize_t)bytes);
}

static PyObject *new_decoder(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"shapes", "memory", "constants", NULL};
    int shapes = DEFAULT_SHAPES, constants = 1;
    Py_ssize_t memory = DEFAULT_MEMORY;
    struct decoder *decoder;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$inp:Decoder", names, &shapes, &memory, &constants))
        return NULL;
    if (shapes < 1 || shapes > 255) {
        PyErr_Format(PyExc_ValueError, "shapes must be 1 to 255, not %d", shapes);
        return NULL;
    }
    if (memory < 0) {
        PyErr_Format(PyExc_ValueError, "memory must be 0 or more bytes, not %zd", memory);
        return NULL;
    }
    decoder = (struct decoder *)type->tp_alloc(type, 0);
    if (!decoder)
        return NULL;
    decoder->refuse_constants = !constants;
    decoder->learner.most_shapes = (unsigned)shapes;
    decoder->learner.most_bytes = (size_t)memory;
    ll_forget(&decoder->learner);
    return (PyObject *)decoder;
}

static void dealloc(PyObject *self)
{
    struct decoder *decoder = (struct decoder *)self;
    PyTypeObject *type = Py_TYPE(self);

    ll_forget(&decoder->learner);
    ll_names_clear(&decoder->learner.names);
    PyMem_Free(decoder->values);
    PyMem_Free(decoder->marks);
    PyMem_Free(decoder->scratch);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_O,
     PyDoc_STR("decode($self, data, /)\n--\n\n"
               "The value of the JSON text in `data`: bytes, bytearray or memoryview, UTF-8, perhaps behind a byte\n"
               "order mark. Raises DecodeError, a ValueError, for whatever is not one JSON value.")},
    {"stats", stats, METH_NOARGS,
     PyDoc_STR("stats($self, /)\n--\n\n"
               "What it has seen and learned. `hits`: texts whose objects were all of known shapes; `misses`: other\n"
               "texts; `relearns`: shapes learned where another was known; `shapes`: known now; `bytes`: held now.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Decoder(*, shapes=8, memory=1048576, constants=True)\n--\n\n"
                       "Decodes JSON as json.loads does, and learns the shapes of what it decodes.\n\n"
                       "It keeps up to `shapes` orders of keys for each place in an event, and up to `memory` bytes of\n"
                       "shapes. With `constants` false it refuses NaN, Infinity and -Infinity. One decoder may be used\n"
                       "from several threads; what it has learned is inherited by fork.")},
    {Py_tp_new, (void *)new_decoder},
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec specification = {
    .name = "lamplighter._events.Decoder",
    .basicsize = sizeof(struct decoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int ll_add_decoder(PyObject *module)
{
    PyObject *type;

    ll_choose_scan();
    if (ll_prove_layout() < 0)
        return -1;
    if (PyModule_AddStringConstant(module, "scanner", ll_scan_name) < 0 ||
        PyModule_AddStringConstant(module, "layout", ll_layout_verdict) < 0)
        return -1;
    if (!decode_error)
        decode_error = PyErr_NewExceptionWithDoc("lamplighter._events.DecodeError",
                                                 "A text is not one JSON value: `msg` says why, and `pos` (bytes from "
                                                 "0), `lineno` and `colno` (characters from 1) where.",
                                                 PyExc_ValueError, NULL);
    if (!decode_error || PyModule_AddObjectRef(module, "DecodeError", decode_error) < 0)
        return -1;
    type = PyType_FromSpec(&specification);
    if (!type)
        return -1;
    const int outcome = PyModule_AddObjectRef(module, "Decoder", type);

    Py_DECREF(type);
    return outcome;
}
