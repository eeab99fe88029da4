/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_body.c - the contract is in fcgi_body.h.
 */
#include "fcgi_body.h"

int fcgi_body_is_of(const request_rec *r)
{
    const request_rec *asked = r->prev;

    while (asked && ap_is_HTTP_SUCCESS(asked->status)) {
        asked = asked->prev;
    }
    return !r->main && !asked;
}
