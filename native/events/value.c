/* Values of which nothing is known, or not enough: one pass over the text. */

#include "shape.h"

static int grow(void **items, size_t *room, size_t need, size_t size)
{
    size_t larger = *room ? *room * 2 : 64;
    void *moved;

    while (larger < need)
        larger *= 2;
    moved = PyMem_Realloc(*items, larger * size);
    if (!moved) {
        PyErr_NoMemory();
        return -1;
    }
    *items = moved;
    *room = larger;
    return 0;
}

int ll_reserve_values(struct ll_reader *reader, size_t more)
{
    void *items = reader->values;
    int outcome = 0;

    if (reader->values_used + more > reader->values_room)
        outcome = grow(&items, &reader->values_room, reader->values_used + more, sizeof *reader->values);
    reader->values = items;
    return outcome;
}

int ll_reserve_marks(struct ll_reader *reader, size_t more)
{
    void *items = reader->marks;
    int outcome = 0;

    if (reader->marks_used + more > reader->marks_room)
        outcome = grow(&items, &reader->marks_room, reader->marks_used + more, sizeof *reader->marks);
    reader->marks = items;
    return outcome;
}

static inline const uint8_t *word(struct ll_reader *reader, const uint8_t *at, const char *name, size_t size,
                                  PyObject *value)
{
    if (UNLIKELY((size_t)(reader->end - at) < size || memcmp(at, name, size) != 0))
        return ll_fault(reader, "Expecting value", at);
    return ll_push(reader, Py_NewRef(value)) ? at + size : NULL;
}

/* ---- arrays ---- */

static const uint8_t *read_array(struct ll_reader *reader, const uint8_t *at, struct ll_place *place)
{
    const uint8_t *end = reader->end;
    const size_t base = reader->values_used;
    struct ll_place *element = place ? ll_element(reader->learner, place) : NULL;
    PyObject *list;
    size_t count;

    at = ll_skip_space(at, end);
    if (at < end && *at == ']') {
        at++;
    } else {
        for (;;) {
            if (UNLIKELY(at == end))
                return ll_fault(reader, "Expecting value", at);
            at = ll_read_value(reader, at, element);
            if (UNLIKELY(!at))
                return NULL;
            at = ll_skip_space(at, end);
            if (UNLIKELY(at == end))
                return ll_fault(reader, "Expecting ',' delimiter", at);
            if (*at == ']')
                break;
            if (UNLIKELY(*at != ','))
                return ll_fault(reader, "Expecting ',' delimiter", at);
            at = ll_skip_space(at + 1, end);
        }
        at++;
    }
    count = reader->values_used - base;
    list = PyList_New((Py_ssize_t)count);
    if (UNLIKELY(!list))
        return NULL;
    for (size_t item = 0; item < count; item++)
        PyList_SET_ITEM(list, (Py_ssize_t)item, reader->values[base + item]);
    reader->values_used = base;
    return ll_push(reader, list) ? at : NULL;
}

/* ---- objects ---- */

/* A key, its quote at `at`: pushed, its hash known. */
static inline const uint8_t *read_key(struct ll_reader *reader, const uint8_t *at)
{
    const uint8_t *special = ll_scan(at + 1, reader->end);
    PyObject *key;

    if (LIKELY(special < reader->end && *special == '"')) {
        key = ll_name(reader->names, at + 1, (size_t)(special - at - 1));
        return LIKELY(key) && ll_push(reader, key) ? special + 1 : NULL;
    }
    at = ll_read_text(reader, at, special, &key);
    if (!at)
        return NULL;
    if (PyObject_Hash(key) == -1) {
        Py_DECREF(key);
        return NULL;
    }
    return ll_push(reader, key) ? at : NULL;
}

/* After a key: the place of its value. */
static inline const uint8_t *read_colon(struct ll_reader *reader, const uint8_t *at)
{
    const uint8_t *end = reader->end;

    at = ll_skip_space(at, end);
    if (UNLIKELY(at == end || *at != ':'))
        return ll_fault(reader, "Expecting ':' delimiter", at);
    at = ll_skip_space(at + 1, end);
    if (UNLIKELY(at == end))
        return ll_fault(reader, "Expecting value", at);
    return at;
}

/* How many keys that an object's place does not know, before the object is taken for one of another kind. */
#define STRANGERS 4

/*
 * An object in the making. Its pairs are the values from `base` on, its marks those from `marks` on.
 *
 * `place` becomes NULL when the object turns out too large to be learned, or memory is short.
 */
struct open_object {
    struct ll_place *place;
    struct ll_place *cursor; /* the field found last */
    size_t base;
    size_t marks;
    size_t count;
    unsigned strangers;
    bool keen;
};

/* The place of the value at `at`, whose key is the last value pushed and began at `from`; it is marked. */
static struct ll_place *mark_key(struct ll_reader *reader, struct open_object *object, const uint8_t *from,
                                 const uint8_t *at)
{
    PyObject **key = &reader->values[reader->values_used - 1];
    struct ll_place *field = NULL;

    if (UNLIKELY(object->count == LL_MOST_KEYS || ll_reserve_marks(reader, 1) < 0)) {
        PyErr_Clear();
        object->place = NULL;
        return NULL;
    }
    if (object->strangers < STRANGERS) {
        field = ll_field(reader->learner, object->place, *key, &object->cursor, object->keen);
        if (!field)
            object->strangers++;
        else if (field->key != *key)
            Py_SETREF(*key, Py_NewRef(field->key)); /* the interned one */
    }
    reader->marks[reader->marks_used++] =
        (struct ll_mark){.bytes = from, .place = field, .size = (size_t)(at - from)};
    return field;
}

static const uint8_t *close_object(struct ll_reader *reader, struct open_object *object, const uint8_t *tail,
                                   const uint8_t *at, bool containers)
{
    const size_t count = (reader->values_used - object->base) / 2;
    PyObject **pairs = reader->values + object->base, *dict;

    reader->values_used = object->base;
    dict = ll_dict_of_pairs(pairs, count, containers);
    if (UNLIKELY(!dict))
        return NULL;
    /* What is above the top of the stack is still there, and while no key was there twice the dict owns each. */
    if (object->place && (size_t)PyDict_GET_SIZE(dict) == count)
        ll_learn(reader->learner, object->place, pairs, reader->marks + object->marks, count, tail,
                 (size_t)(at - tail));
    reader->marks_used = object->marks;
    return ll_push(reader, dict) ? at : NULL;
}

const uint8_t *ll_read_object(struct ll_reader *reader, const uint8_t *at, struct ll_place *place, size_t base,
                              size_t matched, bool containers)
{
    const uint8_t *end = reader->end, *from = at;
    struct open_object object = {.place = place,
                                 .base = base,
                                 .marks = reader->marks_used,
                                 .count = matched,
                                 .keen = place && ll_is_keen(place)};

    at = ll_skip_space(at, end);
    if (matched) {
        reader->missed = true;
        object.cursor = reader->marks[reader->marks_used + matched - 1].place;
        reader->marks_used += matched;
        goto separator;
    }
    if (at < end && *at == '}') {
        PyObject *dict = PyDict_New();

        return dict && ll_push(reader, dict) ? at + 1 : NULL;
    }
    reader->missed = true;
    for (;;) {
        struct ll_place *field = NULL;

        if (UNLIKELY(at == end || *at != '"'))
            return ll_fault(reader, "Expecting property name enclosed in double quotes", at);
        at = read_key(reader, at);
        if (UNLIKELY(!at))
            return NULL;
        at = read_colon(reader, at);
        if (UNLIKELY(!at))
            return NULL;
        if (object.place) {
            field = mark_key(reader, &object, from, at);
            object.count++;
        }
        containers |= (*at | 0x20) == '{';
        at = ll_read_value(reader, at, field);
        if (UNLIKELY(!at))
            return NULL;
        from = at;
        at = ll_skip_space(at, end);
    separator:
        if (UNLIKELY(at == end || (*at != ',' && *at != '}')))
            return ll_fault(reader, "Expecting ',' delimiter", at);
        if (*at == '}')
            return close_object(reader, &object, from, at + 1, containers);
        at = ll_skip_space(at + 1, end);
    }
}

/* ---- any ---- */

static const uint8_t *nested(struct ll_reader *reader, const uint8_t *at, struct ll_place *place)
{
    if (UNLIKELY(reader->depth == LL_DEEPEST))
        return ll_fault(reader, "Nested deeper than 1024", at);
    reader->depth++;
    if (*at == '[')
        at = read_array(reader, at + 1, place);
    else if (place && place->known && place->known->shapes)
        at = ll_match_object(reader, at + 1, place);
    else
        at = ll_read_object(reader, at + 1, place, reader->values_used, 0, false);
    reader->depth--;
    return at;
}

/* A number. Most are integers of up to seven digits, with a byte behind them: those are read here. */
static inline const uint8_t *read_number(struct ll_reader *reader, const uint8_t *at)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (LIKELY(reader->end - at >= 8 && *at != '0')) {
        const uint64_t eight = ll_load64(at);
        const unsigned count = ll_bytes_before(ll_no_digits(eight));

        if (LIKELY(count - 1 < 7 && at[count] != '.' && (at[count] | 0x20) != 'e')) {
            PyObject *number = PyLong_FromLong((long)ll_number_of(eight, count));

            return LIKELY(number) && ll_push(reader, number) ? at + count : NULL;
        }
        if (count == 8)
            return ll_read_number(reader, at, 8, ll_number_of(eight, 8));
    }
#endif
    return ll_read_number(reader, at, 0, 0);
}

const uint8_t *ll_read_value(struct ll_reader *reader, const uint8_t *at, struct ll_place *place)
{
    switch (*at) {
    case '"':
        return ll_read_string(reader, at, place);
    case '{':
    case '[':
        return nested(reader, at, place);
    case 't':
        return word(reader, at, "true", 4, Py_True);
    case 'f':
        return word(reader, at, "false", 5, Py_False);
    case 'n':
        return word(reader, at, "null", 4, Py_None);
    default:
        return read_number(reader, at);
    }
}
