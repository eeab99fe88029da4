/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * proxy_request.c - the contract is in proxy_request.h.
 */
#include "proxy_request.h"

proxy_request *proxy_request_of(request_rec *r)
{
    proxy_request *request =
        ap_get_module_config(r->request_config, &proxy_fastcgi_module);

    if (!request) {
        request = apr_pcalloc(r->pool, sizeof(*request));
        request->passed = apr_array_make(r->pool, 1, sizeof(proxy_passed));
        ap_set_module_config(r->request_config, &proxy_fastcgi_module,
                             request);
    }
    return request;
}
