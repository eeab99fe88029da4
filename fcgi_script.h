/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_script.h - which part of a request's URL is the script, and which its
 * PATH_INFO. Knows no variables.
 */
#ifndef FCGI_SCRIPT_H
#define FCGI_SCRIPT_H

#include <httpd.h>

#include "fcgi_config.h"

/*
 * Decides what the script is and what its PATH_INFO (RFC 3875, 4.1.5 and
 * 4.1.13). A regular file is a script, as core's directory walk found it, if
 * its URL has the handler without what follows its name, too. FcgiScript
 * Auto: where there is no file, a handler set in a Location makes a virtual
 * script of the Location's path; any other handler gives 404. File: never.
 * Virtual: always, below a Location. Sets r->filename and r->path_info for a
 * virtual script.
 *
 * Returns OK, with *location NULL for a file or the virtual script's name
 * ("" for the root); or HTTP_NOT_FOUND, with *why saying the reason.
 */
int fcgi_script_map(request_rec *r, fcgi_script mode, const char **location,
                    const char **why);

#endif
