/*
 * lamplighter._http: the heads that a Runtime API sends every time, read in one pass.
 *
 * parse_head(data) -> (body_at, status, length, event) or None
 *
 * None is no fault. It says that the head is not whole yet, or has something in it that is rare: whatever a server may
 * send is read, or refused in words, by lamplighter/bootstrap/answer.py, and only there. Here is what it would make of a
 * common head, at a tenth of the price. So when in doubt, the answer is None.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <string.h>

#define VERSION "HTTP/1.1 "
#define LENGTH_DIGITS 8   /* a longer body is refused, or at least worth a second look */
#define DEADLINE_DIGITS 18 /* fits 64 bits */

/* The headers of an event, in the order in which Event takes them; and two that say how the body comes. */
enum field {
    REQUEST_ID,
    FUNCTION_ARN,
    DEADLINE,
    TRACE_ID,
    CLIENT_CONTEXT,
    COGNITO_IDENTITY,
    TENANT_ID,
    CONTENT_TYPE,
    INVOCATION_ID,
    EVENT_FIELDS,
    CONTENT_LENGTH = EVENT_FIELDS,
    FIELDS,
};

static const struct name {
    const char *text; /* in lower case */
    size_t length;
} names[FIELDS] = {
#define NAME(text) {text, sizeof text - 1}
    [REQUEST_ID] = NAME("lambda-runtime-aws-request-id"),
    [FUNCTION_ARN] = NAME("lambda-runtime-invoked-function-arn"),
    [DEADLINE] = NAME("lambda-runtime-deadline-ms"),
    [TRACE_ID] = NAME("lambda-runtime-trace-id"),
    [CLIENT_CONTEXT] = NAME("lambda-runtime-client-context"),
    [COGNITO_IDENTITY] = NAME("lambda-runtime-cognito-identity"),
    [TENANT_ID] = NAME("lambda-runtime-aws-tenant-id"),
    [CONTENT_TYPE] = NAME("content-type"),
    [INVOCATION_ID] = NAME("lambda-runtime-invocation-id"),
    [CONTENT_LENGTH] = NAME("content-length"),
};

/* Headers that change how the rest is to be read. */
static const struct name decisive[] = {NAME("transfer-encoding"), NAME("connection")};
#undef NAME

/* Part of the head: not ended by a NUL. `text` is NULL where there is no such header. */
struct slice {
    const char *text;
    size_t length;
};

/* What one head says. `value` is indexed by enum field. */
struct head {
    struct slice value[FIELDS];
    int status;
    size_t end; /* where the body begins */
};

static bool is_named(const char *line, size_t length, const struct name *name)
{
    if (length != name->length)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = line[i];
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != name->text[i])
            return false;
    }
    return true;
}

/* Visible ASCII and nothing else: a name, or an id that goes into a path. */
static bool is_visible(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return length > 0;
}

static bool has_controls(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

static bool is_number(struct slice value, size_t most_digits)
{
    if (value.length == 0 || value.length > most_digits)
        return false;
    for (size_t i = 0; i < value.length; i++)
        if (value.text[i] < '0' || value.text[i] > '9')
            return false;
    return true;
}

static long long number(struct slice digits)
{
    long long n = 0;
    for (size_t i = 0; i < digits.length; i++)
        n = n * 10 + (digits.text[i] - '0');
    return n;
}

/* One line without its end. False: not for us. */
static bool read_line(struct head *head, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    if (!colon)
        return false;
    size_t named = (size_t)(colon - line);
    struct slice value = {colon + 1, length - named - 1};
    if (!is_visible(line, named) || has_controls(value.text, value.length))
        return false;
    while (value.length && (*value.text == ' ' || *value.text == '\t'))
        value.text++, value.length--;
    while (value.length && (value.text[value.length - 1] == ' ' || value.text[value.length - 1] == '\t'))
        value.length--;
    for (size_t i = 0; i < sizeof decisive / sizeof *decisive; i++)
        if (is_named(line, named, &decisive[i]))
            return false;
    for (size_t i = 0; i < FIELDS; i++) {
        if (!is_named(line, named, &names[i]))
            continue;
        if (head->value[i].text)
            return false;
        head->value[i] = value;
        break;
    }
    return true;
}

static bool read_head(struct head *head, const char *data, size_t size)
{
    const size_t status_line = sizeof VERSION - 1 + 3;
    if (size < status_line + 4 || memcmp(data, VERSION, sizeof VERSION - 1))
        return false;
    const char *code = data + sizeof VERSION - 1;
    if (!is_number((struct slice){code, 3}, 3) || (code[3] != ' ' && code[3] != '\r'))
        return false;
    head->status = (int)number((struct slice){code, 3});
    if (head->status < 200 || head->status == 204 || head->status == 304)
        return false;
    const char *line = data, *end = data + size;
    for (bool first = true;; first = false) {
        const char *stop = memchr(line, '\r', (size_t)(end - line));
        if (!stop || stop + 1 == end || stop[1] != '\n')
            return false;
        if (stop == line)
            break;
        if (first ? has_controls(line, (size_t)(stop - line)) : !read_line(head, line, (size_t)(stop - line)))
            return false;
        line = stop + 2;
    }
    head->end = (size_t)(line + 2 - data);
    return head->value[CONTENT_LENGTH].text && is_number(head->value[CONTENT_LENGTH], LENGTH_DIGITS);
}

/* A new reference, or NULL with an exception set. */
static PyObject *event_field(const struct head *head, enum field field)
{
    struct slice value = head->value[field];
    if (field == DEADLINE)
        return PyLong_FromLongLong(is_number(value, DEADLINE_DIGITS) ? number(value) : 0);
    if (!value.text)
        return PyUnicode_FromStringAndSize(NULL, 0);
    return PyUnicode_DecodeUTF8(value.text, (Py_ssize_t)value.length, NULL);
}

/* The event's fields, or None where there is no event. NULL with an exception set where one is not UTF-8. */
static PyObject *event_of(const struct head *head)
{
    if (!head->value[REQUEST_ID].text)
        Py_RETURN_NONE;
    PyObject *fields = PyTuple_New(EVENT_FIELDS);
    for (int i = 0; fields && i < EVENT_FIELDS; i++) {
        PyObject *one = event_field(head, (enum field)i);
        if (!one)
            Py_CLEAR(fields);
        else
            PyTuple_SET_ITEM(fields, i, one);
    }
    return fields;
}

static PyObject *parse_head(PyObject *module, PyObject *data)
{
    (void)module;
    if (!PyBytes_Check(data))
        return PyErr_Format(PyExc_TypeError, "data must be bytes, not %.200s", Py_TYPE(data)->tp_name);
    struct head head = {0};
    if (!read_head(&head, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)))
        Py_RETURN_NONE;
    struct slice id = head.value[REQUEST_ID];
    if (id.text && !is_visible(id.text, id.length))
        Py_RETURN_NONE;
    struct slice deadline = head.value[DEADLINE];
    if (deadline.text && !is_number(deadline, DEADLINE_DIGITS))
        Py_RETURN_NONE;
    PyObject *event = event_of(&head);
    if (!event) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            return NULL;
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return Py_BuildValue(
        "niLN", (Py_ssize_t)head.end, head.status, number(head.value[CONTENT_LENGTH]), event);
}

static PyMethodDef methods[] = {
    {"parse_head", parse_head, METH_O,
     "parse_head(data)\n--\n\n"
     "The head at the start of data as (where the body begins, status, content length, the event's fields or None);\n"
     "None if it is not whole, or not of the common kind."},
    {0},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "lamplighter._http",
    .m_doc = "Heads of HTTP answers; the face is lamplighter.bootstrap.answer.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__http(void)
{
    return PyModuleDef_Init(&definition);
}
