/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_origin.h - where a request's handler comes from: what was written, in
 * which section, by whom; and so which backend it means, below which URL, and
 * whether it may be trusted with an address. Reads core's settings; knows no
 * sockets.
 */
#ifndef FCGI_ORIGIN_H
#define FCGI_ORIGIN_H

#include <httpd.h>

#include "fcgi_backend.h"

/*
 * A fixups hook, to run right after core's: remembers what SetHandler's
 * expression gives, before other modules change what it looks at.
 */
int fcgi_origin_remember(request_rec *r);

/*
 * A map_to_storage hook, to run before core's: a URL below a Location of ours
 * with FcgiScript Virtual is no file. No file is looked for, and no .htaccess
 * is read.
 */
int fcgi_origin_map(request_rec *r);

/*
 * The backend that r->handler, a handler of ours, means. An address that the
 * server's own configuration does not name is refused, unless a SetHandler of
 * that configuration made it, or FcgiAllow admits it. Returns NULL, or a
 * sentence that says what is wrong.
 */
const char *fcgi_origin_backend(request_rec *r, const fcgi_backend **backend);

/*
 * The URL path below which r's handler was set: the path of the <Location>
 * that has the SetHandler, without a final slash; "" for "/", for a Location
 * with wildcards, a LocationMatch, and a SetHandler outside of all sections.
 * NULL if the handler came from anywhere else (files, directories,
 * AddHandler, mod_rewrite): then only a regular file is a script.
 */
const char *fcgi_origin_location(request_rec *r);

#endif
