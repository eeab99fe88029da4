/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_version.h - the version of the module: the only place that says it.
 * t/10-build.t holds CHANGES, debian/changelog and the RPM's spec to it, and
 * "make dist" names the tar ball by it; one that ends in -dev is not released.
 * It is on the status page, in JSON, for Prometheus and in mod_status, and never
 * in the field Server.
 */
#ifndef FCGI_VERSION_H
#define FCGI_VERSION_H

#define FCGI_MODULE_VERSION "1.0.0"

#endif
