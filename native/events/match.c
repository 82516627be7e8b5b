/* Objects read by a shape that is known: the bytes between values compared, the values read, the dict cloned. */

#include "shape.h"

/* Whether the run comes next, and right after it a value: more white space would be another run. */
static inline bool run_follows(const struct ll_run *run, const uint8_t *at, const uint8_t *end)
{
    return (size_t)(end - at) > run->size && at[run->size] > ' ' && ll_same(at, run->bytes, run->size);
}

static inline bool tail_follows(const struct ll_shape *shape, const uint8_t *at, const uint8_t *end)
{
    return (size_t)(end - at) >= shape->tail_size && ll_same(at, shape->tail, shape->tail_size);
}

/* Another shape of the place that has the same first `matched` keys and goes on as the text does; moved to the front. */
static struct ll_shape *alternative(struct ll_known *known, const struct ll_shape *shape, size_t matched,
                                    const uint8_t *at, const uint8_t *end)
{
    for (struct ll_shape **link = &known->shapes; *link; link = &(*link)->next) {
        struct ll_shape *other = *link;
        size_t same = 0;

        if (other == shape || other->count < matched)
            continue;
        if (matched == other->count ? !tail_follows(other, at, end) : !run_follows(&other->runs[matched], at, end))
            continue;
        while (same < matched && other->runs[same].place == shape->runs[same].place)
            same++;
        if (same < matched)
            continue;
        *link = other->next;
        other->next = known->shapes;
        known->shapes = other;
        return other;
    }
    return NULL;
}

/* How often an object may go over to another shape: such as differ in white space alone could take turns at each key. */
#define MOST_CHANGES 8

/* No shape goes on as the text does: make pairs of the values, marks of the runs, and read on without a shape. */
static const uint8_t *depart(struct ll_reader *reader, const uint8_t *at, struct ll_place *place,
                             const struct ll_shape *shape, size_t base, size_t matched, bool containers)
{
    PyObject **values;

    if (ll_reserve_values(reader, matched) < 0 || ll_reserve_marks(reader, matched) < 0)
        return NULL;
    values = reader->values + base;
    for (size_t key = matched; key-- > 0;) {
        values[2 * key + 1] = values[key];
        values[2 * key] = Py_NewRef(shape->runs[key].place->key);
    }
    for (size_t key = 0; key < matched; key++)
        reader->marks[reader->marks_used + key] = (struct ll_mark){
            .bytes = shape->runs[key].bytes, .place = shape->runs[key].place, .size = shape->runs[key].size};
    reader->values_used += matched;
    return ll_read_object(reader, at, place, base, matched, containers);
}

const uint8_t *ll_match_object(struct ll_reader *reader, const uint8_t *at, struct ll_place *place)
{
    const uint8_t *end = reader->end;
    struct ll_known *known = place->known;
    struct ll_shape *shape = known->shapes, *other;
    const size_t base = reader->values_used;
    size_t matched = 0;
    unsigned changes = 0;
    bool containers = false;
    PyObject *dict;

    for (;;) {
        if (matched < shape->count) {
            const struct ll_run *run = &shape->runs[matched];

            if (LIKELY(run_follows(run, at, end))) {
                at += run->size;
                if (LIKELY(*at == '"')) {
                    at = ll_read_string(reader, at, run->place);
                } else {
                    containers |= (*at | 0x20) == '{';
                    at = ll_read_value(reader, at, run->place);
                }
                if (UNLIKELY(!at))
                    return NULL;
                matched++;
                continue;
            }
        } else if (LIKELY(tail_follows(shape, at, end))) {
            break;
        }
        other = changes++ < MOST_CHANGES ? alternative(known, shape, matched, at, end) : NULL;
        if (!other)
            return depart(reader, at, place, shape, base, matched, containers);
        shape = other;
    }
    if (UNLIKELY(!shape->met))
        ll_met(known, shape);
    reader->values_used = base;
    dict = ll_dict_of_image(shape->image, reader->values + base, containers);
    return LIKELY(dict) && ll_push(reader, dict) ? at + shape->tail_size : NULL;
}
