# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Builds mod_fastcgi_handler through apxs, and runs what shows that it works;
# "make help" lists the targets.  The module alone needs no more than
#
#     apxs -i -a -o mod_fastcgi_handler.so -c *.c

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

MODULE  := mod_fastcgi_handler
SOURCES := $(sort $(wildcard *.c))
HEADERS := $(sort $(wildcard *.h))
BUILT   := .libs/$(MODULE).so
ASAN    := build/asan
DEB     := libapache2-mod-fastcgi-handler
TESTS   ?= t/*.t

# Tests wait more than they work, and run side by side; but those that measure
# time run first, one by one.
JOBS    ?= 5
ALONE   := t/{62-timeouts,81-given-up,89-asleep}.t
PROVE   = prove -It/lib -j$(JOBS) --rules='seq=$(ALONE)' --rules='par=**' \
    $(PROVE_FLAGS)

ifeq ($(origin APXS),undefined)
APXS := $(firstword $(notdir $(shell command -v apxs || command -v apxs2)) apxs)
endif

WARNINGS := -Wall -Wextra
# What every source must pass without a word, on gcc and on clang.
STRICT   := -std=c99 $(WARNINGS) -Werror -Wshadow -Wvla -Wpointer-arith \
            -Wstrict-prototypes -Wmissing-prototypes
SANITIZE := -fsanitize=address,undefined -fno-omit-frame-pointer

# The flags httpd's modules are compiled with, for compilers and checkers that
# do not run under apxs; the headers of httpd and APR are not ours to judge.
httpd_flags = $(shell $(APXS) -q EXTRA_CPPFLAGS) \
    -isystem $(shell $(APXS) -q INCLUDEDIR) \
    -isystem $(shell `$(APXS) -q APR_CONFIG` --includedir)

# apxs and libtool print each command they run: shown with V=1 only.
ifneq ($(V),1)
export LTFLAGS := --silent
quietly = 2>&1 | sed -E '/--mode=(compile|link|install) /d; /^chmod /d; \
    /^libtool: (install|finish|warning: remember)/d; /instdso.sh /d; \
    /^-{60,}$$/,/^-{60,}$$/d; /^$$/d'
endif

comma := ,
# Compiler flags in the form apxs passes on: -Wc,-Wall -Wc,-Wextra
through_apxs = $(addprefix -Wc$(comma),$(1))
# And the linker's.
link_through_apxs = $(addprefix -Wl$(comma),$(1))

.PHONY: all apxs deps install deb demo test bench lint format check-format \
    check-functions check-warnings check-static asan test-asan clean help
.DELETE_ON_ERROR:

all: $(BUILT)

$(BUILT): $(SOURCES) $(HEADERS) Makefile | apxs
	@echo "Building $@"
	@$(APXS) -c -o $(MODULE).so \
	    $(call through_apxs,$(WARNINGS) $(CPPFLAGS) $(CFLAGS)) \
	    $(call link_through_apxs,$(LDFLAGS)) $(SOURCES) $(quietly)

apxs:
	@command -v $(APXS) >/dev/null || { printf '%s\n' \
	    "$(APXS) is not here; it builds httpd's modules and comes with" \
	    "    Debian, Ubuntu   apt-get install apache2-dev gcc" \
	    "    Fedora           dnf install httpd-devel gcc" \
	    "or name it: make APXS=/path/to/apxs" >&2; exit 1; }

# Into the httpd that apxs belongs to, or for a package below DESTDIR.
install: $(BUILT)
	@dir="$$($(APXS) -q LIBEXECDIR)"; \
	mkdir -p "$(DESTDIR)$$dir"; \
	$(APXS) -i -n fastcgi_handler -S LIBEXECDIR="$(DESTDIR)$$dir" \
	    $(MODULE).la $(quietly); \
	echo "Installed $(DESTDIR)$$dir/$(MODULE).so"; \
	echo "httpd loads it with: LoadModule fastcgi_handler_module" \
	    "$$dir/$(MODULE).so"

# The Debian package.  Built in a copy, because dpkg-buildpackage writes into
# the folder it builds from and beside it.
deb:
	@echo "Building the package (build/deb.log)"
	@rm -rf build/package build/$(DEB)*
	@mkdir -p build/package
	@tar -c --exclude-vcs --exclude=./build --exclude=.libs \
	    --exclude='*.o' --exclude='*.lo' --exclude='*.slo' \
	    --exclude='*.la' --exclude='*.so' . | tar -x -C build/package
	@cd build/package && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u LTFLAGS \
	    dpkg-buildpackage -us -uc -b >../deb.log 2>&1 \
	    || { cat ../deb.log >&2; exit 1; }
	@rm -rf build/package
	@ls build/$(DEB)_*.deb

deps:
	@t/deps build demo test

demo:
	@t/deps build demo
	@$(MAKE) --no-print-directory all
	@exec perl -It/lib demo/demo.pl

# MPM=event|worker|prefork and TRANSPORT=unix|tcp reach the tests through the
# environment; TESTS="t/20-*.t" runs some of them, JOBS=1 one at a time.
test: deps
	@$(MAKE) --no-print-directory all
	@$(PROVE) $(TESTS)

# Beside mod_proxy_fcgi and nginx; BENCH_ROUNDS=, BENCH_SECONDS= and
# BENCH_ONLY= reach t/bench/bench.pl through the environment, as MPM= does.
bench:
	@t/deps build demo bench
	@$(MAKE) --no-print-directory all
	@exec perl t/bench/bench.pl

# The module under AddressSanitizer and UBSan, apart from the normal build.
asan: $(ASAN)/$(MODULE).so

$(ASAN)/$(MODULE).so: $(SOURCES) $(HEADERS) Makefile | apxs
	@echo "Building $@"
	@rm -rf $(ASAN) && mkdir -p $(ASAN)
	@ln -s $(addprefix ../../,$(SOURCES) $(HEADERS)) $(ASAN)
	@cd $(ASAN) && $(APXS) -c -o $(MODULE).so \
	    $(call through_apxs,$(WARNINGS) -O1 $(SANITIZE)) \
	    $(addprefix -Wl$(comma),$(SANITIZE)) $(SOURCES) $(quietly)
	@ln -s .libs/$(MODULE).so $@

# The live tests with that module; leaks are httpd's business at exit.
test-asan: TESTS = t/[2-9]*.t
test-asan: deps
	@$(MAKE) --no-print-directory asan
	@MODULE_SO="$(CURDIR)/$(ASAN)/$(MODULE).so" \
	    HTTPD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
	    ASAN_OPTIONS="detect_leaks=0:$${ASAN_OPTIONS-}" \
	    UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:$${UBSAN_OPTIONS-}" \
	    $(PROVE) $(TESTS)

lint:
	@t/deps build lint
	@$(MAKE) --no-print-directory check-format check-functions
	@$(MAKE) --no-print-directory check-warnings CC=gcc
	@$(MAKE) --no-print-directory check-warnings CC=clang
	@$(MAKE) --no-print-directory check-static

FORMATTED = $(SOURCES) $(HEADERS) $(wildcard demo/*.c t/*/*.c t/*/*.h)

check-format:
	@echo "Checking the format (make format corrects it)"
	@failed=0; for file in $(FORMATTED); do \
	    clang-format "$$file" | diff -u --label "$$file" \
	        --label "$$file, formatted" "$$file" - || failed=1; \
	done; exit $$failed

format:
	@clang-format -i $(FORMATTED)

check-functions:
	@echo "Checking the size of functions"
	@t/lint-functions

# At -O2 some warnings see more.  Every source is tried before it fails.
check-warnings: | apxs
	@echo "Checking for warnings of $(CC)"
	@failed=0; for source in $(SOURCES); do \
	    $(CC) -O2 $(STRICT) $(httpd_flags) -fPIC -c -o /dev/null $$source \
	        || failed=1; \
	done; exit $$failed

check-static: | apxs
	@echo "Checking with cppcheck"
	@cppcheck --quiet --error-exitcode=1 --std=c99 --inline-suppr \
	    --enable=warning,performance,portability \
	    --suppress=missingIncludeSystem $(SOURCES)
	@echo "Checking with clang-tidy"
	@clang-tidy --quiet --warnings-as-errors='*' --checks=$(TIDY_CHECKS) \
	    $(SOURCES) -- -std=c99 $(httpd_flags) $(findings)

# The findings without the path that leads to each; V=1 shows it.
ifneq ($(V),1)
findings = 2>&1 | awk '/: note:/ { hidden = 1 } \
    /: (error|warning):/ { hidden = 0 } \
    !hidden && NF && !/^[0-9]+ warnings? (generated|treated)/'
endif

# What finds mistakes rather than taste.  Left out: C11's memcpy_s, which C
# libraries do not have; "if (strcmp(a, b))" and 64 * 1024, as httpd writes;
# branches of the same content that say different things.
TIDY_CHECKS := '-*,clang-analyzer-*,bugprone-*,$\
    -clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,$\
    -bugprone-branch-clone,$\
    -bugprone-easily-swappable-parameters,$\
    -bugprone-suspicious-string-compare,$\
    -bugprone-implicit-widening-of-multiplication-result'

clean:
	@rm -rf .libs build
	@rm -f *.o *.lo *.slo *.la *.so

help:
	@printf '%s\n' \
	    "make            build the module with apxs" \
	    "make install    put it into that httpd (DESTDIR=)" \
	    "make deb        build/$(DEB)_*.deb" \
	    "make demo       PHP, Django and C behind a private httpd, to try" \
	    "make test       install what tests need, build, run all of them" \
	    "                (MPM=event|worker|prefork TRANSPORT=unix|tcp TESTS=" \
	    "                JOBS=)" \
	    "make bench      compare with mod_proxy_fcgi and nginx, 5 minutes" \
	    "                (MPM= BENCH_ROUNDS= BENCH_SECONDS= BENCH_ONLY=)" \
	    "make asan       build/asan/$(MODULE).so, with sanitizers" \
	    "make test-asan  the live tests with it" \
	    "make lint       format, function sizes, warnings, static analysis" \
	    "make format     correct the format" \
	    "make deps       install what demo and tests need (Debian, Ubuntu)" \
	    "make clean      remove what was built" \
	    "Everywhere: V=1 shows commands, APXS= names another httpd's apxs."
