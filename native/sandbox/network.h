#ifndef LAMPLIGHTER_NETWORK_H
#define LAMPLIGHTER_NETWORK_H

#include "sandbox.h"

/* Bring up the loopback interface of the calling process's network namespace. */
int ll_loopback_up(struct ll_fault *fault);

#endif
