/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_origin.h - where a request's handler comes from: what was written, in
 * which section, and so below which URL, and what of that URL httpd takes for
 * a file. Reads core's settings; what that permits is fcgi_trust's business.
 */
#ifndef FCGI_ORIGIN_H
#define FCGI_ORIGIN_H

#include <httpd.h>
#include <http_config.h>

/* What decided that a request's handler is ours. */
typedef enum {
    FCGI_ORIGIN_URL,  /* what may have looked at the whole URL: a Location, an
                       * <If>, mod_rewrite, a .htaccess file's SetHandler */
    FCGI_ORIGIN_NAME, /* AddHandler: a name's extensions */
    FCGI_ORIGIN_FILE  /* a SetHandler of a Directory or Files section */
} fcgi_origin_kind;

/* The part of a URL that a section stands for. */
typedef struct fcgi_location {
    const char *path; /* NULL: there is none */
    int is_pattern; /* it is the client who chose it, below a LocationMatch */
} fcgi_location;

/*
 * A fixups hook, to run right after core's: remembers what SetHandler's
 * expression gives, before other modules change what it looks at.
 */
int fcgi_origin_remember(request_rec *r);

/*
 * A fixups hook, to run after all others: where a rule of a folder leads to
 * another URL the handler that a rule of the server gave the first one must
 * not stand in the way; mod_rewrite sets that last.
 */
int fcgi_origin_follow(request_rec *r);

/*
 * A translate_name hook, to run before all others: remembers what httpd found
 * in the Locations for this URL, which it does not keep.
 */
int fcgi_origin_walked(request_rec *r);

/*
 * A translate_name hook, to run before core's and after all others: below a
 * Location of ours a URL may be longer than a path.
 */
int fcgi_origin_translate(request_rec *r);

/*
 * A map_to_storage hook, to run before core's: a URL below a Location of ours
 * with FcgiScript Virtual is no file. No file is looked for, and no .htaccess
 * is read. The same holds for a subrequest between the two calls below. With
 * FcgiScript Auto what can be no file is none, and no error. What mod_proxy has
 * taken is left to it.
 */
int fcgi_origin_map(request_rec *r);

/* True if it was so: none of r's URL is a file. */
int fcgi_origin_is_virtual(const request_rec *r);

/*
 * Hooks of these names, before core's, for the same with Auto: a name that is
 * too long, a link that leads nowhere and what lies in a folder that may not
 * be searched are not there; nor is the .htaccess file of such a folder.
 */
apr_status_t fcgi_origin_stat(apr_finfo_t *info, request_rec *r,
                              apr_int32_t wanted);
apr_status_t fcgi_origin_open_htaccess(request_rec *r, const char *dir,
                                       const char *name,
                                       ap_configfile_t **file,
                                       const char **path);

/* From here on subrequests of r only translate a URL into a path, until it is
 * said that they do no more. */
void fcgi_origin_translate_only(request_rec *r, int only);

/* The handler that r will have: mod_rewrite sets a rule's last of all. */
const char *fcgi_origin_handler(const request_rec *r);

/* r->handler as SetHandler has it, before httpd lower-cased it; NULL if
 * r->handler is not from SetHandler. */
const char *fcgi_origin_exact(request_rec *r);

/* True if r->handler is what a SetHandler says that stands in the server's own
 * configuration; what its expression and the <If> around it look at may still
 * be a .htaccess file's. */
int fcgi_origin_is_servers_own(request_rec *r);

/* The same, if it stands in no <If>. */
int fcgi_origin_is_fixed(request_rec *r);

/* What decided that r->handler is ours. */
fcgi_origin_kind fcgi_origin_of(request_rec *r);

/*
 * The URL path below which r's handler was set: the path of the <Location>
 * that has the SetHandler, without a final slash; "" for "/", for a Location
 * with wildcards, and a SetHandler outside of all sections; below a
 * LocationMatch the shortest part of the URL, of whole names, that the pattern
 * matches. Of a handler that mod_rewrite gives, that of the Location that says
 * FcgiScript Virtual. NULL if the handler came from anywhere else (files,
 * directories, AddHandler, other rules): then only a regular file is a script.
 */
fcgi_location fcgi_origin_location(request_rec *r);

/* True if it has one. */
int fcgi_origin_is_below_location(request_rec *r);

#endif
