#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

int ll_fail(struct ll_fault *fault, const char *format, ...)
{
    int code = errno;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fault->verb, sizeof fault->verb, format, arguments);
    va_end(arguments);
    fault->code = code;
    errno = code;
    return -1;
}
